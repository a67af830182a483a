//! Einstein's sums, as far as they are one product of two.

use super::{LowerError, builder::Builder, products, site::Site, value::Value};

/// The letters of both terms and of the result, by what they are there for.
struct Letters {
    /// In all three.
    batch: Vec<char>,
    /// In the first and the result.
    left: Vec<char>,
    /// In the second and the result.
    right: Vec<char>,
    /// In both terms alone: what is summed up.
    summed: Vec<char>,
}

pub(super) fn einsum(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let equation: String = site.text("equation").unwrap_or_default().split_whitespace().collect();
    let refuse =
        || site.refuse(format!("computes {equation:?}, which is not one product of two with a named result"));
    let (terms, result) = equation.split_once("->").ok_or_else(refuse)?;
    let (first, second) = terms.split_once(',').ok_or_else(refuse)?;
    let [first, second, result] = [first, second, result].map(|term| term.chars().collect::<Vec<char>>());
    let letters = letters(&first, &second, &result).ok_or_else(refuse)?;
    let (a, b) = (site.input(0)?, site.input(1)?);
    if site.inputs.len() != 2 || a.rank() != first.len() || b.rank() != second.len() {
        return Err(refuse());
    }
    let Letters { batch, left, right, summed } = &letters;
    let a = grouped(builder, a, &first, [batch, left, summed])?;
    let b = grouped(builder, b, &second, [batch, summed, right])?;
    let product = products::product(builder, site, &a.merged, &b.merged, products::NOTHING)?;
    let shape = [a.sizes(batch), a.sizes(left), b.sizes(right)].concat();
    let apart = builder.reshape(&product, &shape)?;
    let order = [batch.as_slice(), left, right].concat();
    let places =
        result.iter().map(|letter| order.iter().position(|other| other == letter).expect("in the result"));
    Ok(vec![apart.transposed(&places.collect::<Vec<_>>())])
}

fn letters(first: &[char], second: &[char], result: &[char]) -> Option<Letters> {
    let once = |term: &[char]| {
        let plain = term.iter().all(char::is_ascii_alphabetic);
        plain && term.iter().enumerate().all(|(at, letter)| !term[..at].contains(letter))
    };
    let known = result.iter().all(|letter| first.contains(letter) || second.contains(letter));
    let alone = |term: &[char], other: &[char]| {
        term.iter().any(|letter| !other.contains(letter) && !result.contains(letter))
    };
    if ![first, second, result].into_iter().all(once)
        || !known
        || alone(first, second)
        || alone(second, first)
    {
        return None;
    }
    let pick = |from: &[char], other: bool, kept: bool, beside: &[char]| {
        let wanted = |letter: &&char| beside.contains(letter) == other && result.contains(letter) == kept;
        from.iter().filter(wanted).copied().collect::<Vec<char>>()
    };
    Some(Letters {
        batch: pick(first, true, true, second),
        left: pick(first, false, true, second),
        right: pick(second, false, true, first),
        summed: pick(first, true, false, second),
    })
}

/// A term with the batch's dimensions ahead and one for each of the other two groups.
struct Grouped {
    merged: Value,
    letters: Vec<char>,
    shape: Vec<usize>,
}

impl Grouped {
    fn sizes(&self, letters: &[char]) -> Vec<usize> {
        let size = |letter: &char| {
            self.shape[self.letters.iter().position(|other| other == letter).expect("it has that letter")]
        };
        letters.iter().map(size).collect()
    }
}

fn grouped(
    builder: &mut Builder,
    value: &Value,
    letters: &[char],
    groups: [&Vec<char>; 3],
) -> Result<Grouped, LowerError> {
    let order = groups.into_iter().flatten();
    let order =
        order.map(|letter| letters.iter().position(|other| other == letter).expect("it has that letter"));
    let turned = value.transposed(&order.collect::<Vec<_>>());
    let (batch, first) = (groups[0].len(), groups[1].len());
    let product = |sizes: &[usize]| sizes.iter().product::<usize>();
    let mut shape = turned.shape[..batch].to_vec();
    shape.extend([product(&turned.shape[batch..batch + first]), product(&turned.shape[batch + first..])]);
    let merged = builder.reshape(&turned, &shape)?;
    Ok(Grouped { merged, letters: letters.to_vec(), shape: value.shape.clone() })
}
