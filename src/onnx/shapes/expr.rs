//! Whole numbers that depend on the sizes of inputs: polynomials over symbols, with quotients rounded down and maxima.
//!
//! Bounded: what grows over a limit, or beyond what can be counted, is no longer known.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
};

/// Terms of one sum. Models' own have a handful; beyond it nobody reads them.
const TERMS_MAX: usize = 64;

/// Quotients and maxima within each other.
const NESTED_MAX: u32 = 4;

/// Terms, those within quotients and maxima included.
const SIZE_MAX: usize = 256;

/// Longest symbol that is followed; exporters' have some twenty characters.
const SYMBOL_MAX: usize = 64;

/// Factors of one product and their powers: more than the dimensions of any tensor.
const POWER_MAX: u32 = 32;

/// A sum of products with their coefficients, none of which is zero. Symbols stand for sizes of at least 1.
/// Clones share their terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expr(Arc<Terms>);

type Terms = BTreeMap<Product, i128>;

/// Factors with their powers, in order; none is the constant 1.
type Product = Vec<(Factor, u32)>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Factor {
    Symbol(Arc<str>),
    /// Rounded down.
    Quotient(Arc<(Expr, Expr)>),
    Max(Arc<(Expr, Expr)>),
}

/// Sizes by symbol.
pub type Sizes = BTreeMap<String, u64>;

impl Expr {
    pub fn constant(value: i64) -> Self {
        Self::of(Vec::new(), value.into())
    }

    /// Nothing for a name that is too long to be one.
    pub fn symbol(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= SYMBOL_MAX;
        fits.then(|| Self::factor(Factor::Symbol(name.into())))
    }

    fn factor(factor: Factor) -> Self {
        Self::of(vec![(factor, 1)], 1)
    }

    fn sum(mut terms: Terms) -> Self {
        terms.retain(|_, coefficient| *coefficient != 0);
        Self(Arc::new(terms))
    }

    fn of(product: Product, coefficient: i128) -> Self {
        Self::sum([(product, coefficient)].into())
    }

    pub fn as_constant(&self) -> Option<i64> {
        match self.0.len() {
            0 => Some(0),
            1 => self.0.get(&Vec::new()).and_then(|value| i64::try_from(*value).ok()),
            _ => None,
        }
    }

    pub fn is(&self, value: i64) -> bool {
        self.as_constant() == Some(value)
    }

    pub fn plus(&self, other: &Self) -> Option<Self> {
        let mut sum = Terms::clone(&self.0);
        for (product, coefficient) in other.0.iter() {
            let entry = sum.entry(product.clone()).or_insert(0);
            *entry = entry.checked_add(*coefficient)?;
        }
        Self::sum(sum).bounded()
    }

    pub fn minus(&self, other: &Self) -> Option<Self> {
        self.plus(&other.times(&Self::constant(-1))?)
    }

    pub fn times(&self, other: &Self) -> Option<Self> {
        let mut sum = Terms::new();
        for (a, times) in self.0.iter() {
            for (b, more) in other.0.iter() {
                let entry = sum.entry(multiplied(a, b)?).or_insert(0);
                *entry = entry.checked_add(times.checked_mul(*more)?)?;
                if sum.len() > TERMS_MAX {
                    return None;
                }
            }
        }
        Self::sum(sum).bounded()
    }

    /// Rounded down; nothing where the divisor may be zero or less for all that is known.
    pub fn over(&self, divisor: &Self) -> Option<Self> {
        if self == divisor && !divisor.0.is_empty() {
            return Some(Self::constant(1));
        }
        let positive = divisor.0.values().all(|coefficient| *coefficient > 0) && !divisor.0.is_empty();
        if !positive {
            return None;
        }
        let (by, scale) = divisor.0.iter().next()?;
        if divisor.0.len() > 1 {
            // Whole multiples: each term of one would have the divisor's first term in it.
            let factors = self.0.iter().filter(|(_, coefficient)| *coefficient % scale == 0);
            let mut factors = factors.filter_map(|(product, coefficient)| {
                Some(Self::of(divided(product, by)?, coefficient / scale))
            });
            let whole = factors.find(|factor| divisor.times(factor).is_some_and(|whole| whole == *self));
            return whole.or_else(|| self.quotient(divisor));
        }
        let (mut whole, mut rest) = (Terms::new(), Terms::new());
        for (product, coefficient) in self.0.iter() {
            match divided(product, by) {
                Some(left) if by.is_empty() && left.is_empty() => {
                    whole.insert(left.clone(), coefficient.div_euclid(*scale));
                    rest.insert(left, coefficient.rem_euclid(*scale));
                }
                Some(left) if coefficient % scale == 0 => drop(whole.insert(left, coefficient / scale)),
                _ => drop(rest.insert(product.clone(), *coefficient)),
            }
        }
        rest.retain(|_, coefficient| *coefficient != 0);
        let whole = Self::sum(whole).bounded()?;
        // A remainder alone is less than the divisor.
        if by.is_empty() && rest.keys().all(Vec::is_empty) {
            return Some(whole);
        }
        if rest.is_empty() { Some(whole) } else { whole.plus(&Self::sum(rest).quotient(divisor)?) }
    }

    fn quotient(&self, divisor: &Self) -> Option<Self> {
        if self.0.is_empty() {
            return Some(Self::default());
        }
        let common = self.common(divisor);
        if !common.is(1) {
            let shortened = |expr: &Self| expr.over(&common);
            return shortened(self)?.over(&shortened(divisor)?);
        }
        match divisor.as_constant().and_then(|by| self.once_divided(by)) {
            Some((dividend, divisor)) => dividend.over(&divisor),
            None => Self::factor(Factor::Quotient(Arc::new((self.clone(), divisor.clone())))).bounded(),
        }
    }

    /// What goes into every term of both without rest. Only symbols are never zero.
    fn common(&self, other: &Self) -> Self {
        let mut terms = self.0.iter().chain(other.0.iter());
        let Some((first, scale)) = terms.next() else { return Self::constant(1) };
        let mut powers: Product =
            first.iter().filter(|(factor, _)| matches!(factor, Factor::Symbol(_))).cloned().collect();
        let mut shared = scale.unsigned_abs();
        for (product, coefficient) in terms {
            shared = gcd(shared, coefficient.unsigned_abs());
            for (factor, power) in &mut powers {
                let own = product.iter().find(|(own, _)| own == factor).map_or(0, |(_, power)| *power);
                *power = own.min(*power);
            }
        }
        powers.retain(|(_, power)| *power > 0);
        Self::of(powers, shared.try_into().unwrap_or(1))
    }

    /// A quotient of a quotient and a number is one of two numbers: `⌊(⌊x/a⌋ + c)/b⌋ = ⌊(x + a·c)/(a·b)⌋`.
    fn once_divided(&self, by: i64) -> Option<(Self, Self)> {
        let none = Vec::new();
        let added = self.0.get(&none).copied().unwrap_or(0);
        let mut others = self.0.iter().filter(|(product, _)| **product != none);
        let (Some((product, 1)), None) = (others.next(), others.next()) else { return None };
        let [(Factor::Quotient(parts), 1)] = product.as_slice() else { return None };
        let first = Self::constant(parts.1.as_constant()?);
        let added = first.times(&Self::of(none, added))?;
        Some((parts.0.plus(&added)?, first.times(&Self::constant(by))?))
    }

    /// Rounded up.
    pub fn over_up(&self, divisor: &Self) -> Option<Self> {
        self.plus(divisor)?.minus(&Self::constant(1))?.over(divisor)
    }

    pub fn larger(&self, other: &Self) -> Option<Self> {
        if let Some(difference) = self.minus(other).and_then(|difference| difference.as_constant()) {
            return Some(if difference >= 0 { self.clone() } else { other.clone() });
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Self::factor(Factor::Max(Arc::new((a.clone(), b.clone())))).bounded()
    }

    pub(super) fn terms(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether no term is negative, so that it is never.
    pub(super) fn never_negative(&self) -> bool {
        self.0.values().all(|coefficient| *coefficient > 0)
    }

    /// The smaller of both.
    pub fn smaller(&self, other: &Self) -> Option<Self> {
        self.plus(other)?.minus(&self.larger(other)?)
    }

    /// Whether it is the other one's upper bound, and that is never zero or less.
    pub(super) fn bounds(&self, other: &Self) -> bool {
        let positive = |expr: &Self| {
            let factors = expr.0.keys().flatten();
            let mut symbols = factors.map(|(factor, _)| matches!(factor, Factor::Symbol(_)));
            !expr.0.is_empty() && expr.never_negative() && symbols.all(|one| one)
        };
        other.two_smaller().is_some_and(|(a, b)| (*self == a || *self == b) && positive(&a) && positive(&b))
    }

    /// The two that it is the smaller one of, as `smaller` puts it.
    fn two_smaller(&self) -> Option<(Self, Self)> {
        let larger = self.0.iter().find_map(|(product, coefficient)| match product.as_slice() {
            [(Factor::Max(parts), 1)] if *coefficient == -1 => Some(parts),
            _ => None,
        })?;
        let (a, b) = (&larger.0, &larger.1);
        (a.smaller(b)? == *self).then(|| (a.clone(), b.clone()))
    }

    /// What it is at these sizes; nothing when one is missing, or it is negative or too large.
    pub fn at(&self, sizes: &Sizes) -> Option<u64> {
        u64::try_from(self.value(sizes)?).ok()
    }

    fn value(&self, sizes: &Sizes) -> Option<i128> {
        self.0.iter().try_fold(0i128, |sum, (product, coefficient)| {
            let value = product.iter().try_fold(*coefficient, |value, (factor, power)| {
                value.checked_mul(factor.value(sizes)?.checked_pow(*power)?)
            })?;
            sum.checked_add(value)
        })
    }

    fn bounded(self) -> Option<Self> {
        let fits = self.0.len() <= TERMS_MAX && self.size() <= SIZE_MAX && self.nested() <= NESTED_MAX;
        fits.then_some(self)
    }

    fn size(&self) -> usize {
        let factors = self.0.keys().flatten().filter_map(|(factor, _)| factor.parts());
        self.0.len() + factors.map(|(a, b)| a.size() + b.size()).sum::<usize>()
    }

    fn nested(&self) -> u32 {
        let factors = self.0.keys().flatten().filter_map(|(factor, _)| factor.parts());
        factors.map(|(a, b)| 1 + a.nested().max(b.nested())).max().unwrap_or(0)
    }
}

impl Factor {
    fn parts(&self) -> Option<(&Expr, &Expr)> {
        match self {
            Self::Symbol(_) => None,
            Self::Quotient(parts) | Self::Max(parts) => Some((&parts.0, &parts.1)),
        }
    }

    fn value(&self, sizes: &Sizes) -> Option<i128> {
        match self {
            Self::Symbol(name) => sizes.get(&**name).map(|size| (*size).into()),
            Self::Quotient(parts) => {
                let divisor = parts.1.value(sizes)?;
                parts.0.value(sizes)?.checked_div_euclid(divisor).filter(|_| divisor > 0)
            }
            Self::Max(parts) => Some(parts.0.value(sizes)?.max(parts.1.value(sizes)?)),
        }
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn multiplied(a: &Product, b: &Product) -> Option<Product> {
    let mut powers: BTreeMap<&Factor, u32> = BTreeMap::new();
    for (factor, power) in a.iter().chain(b) {
        let entry = powers.entry(factor).or_insert(0);
        *entry = entry.checked_add(*power).filter(|power| *power <= POWER_MAX)?;
    }
    if powers.len() > POWER_MAX as usize {
        return None;
    }
    Some(powers.into_iter().map(|(factor, power)| (factor.clone(), power)).collect())
}

/// What is left of a product without these factors, if it has them.
fn divided(product: &Product, by: &Product) -> Option<Product> {
    let mut left = product.clone();
    for (factor, power) in by {
        let (_, has) = left.iter_mut().find(|(own, _)| own == factor)?;
        *has = has.checked_sub(*power)?;
    }
    left.retain(|(_, power)| *power > 0);
    Some(left)
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        // What grows fastest comes first.
        let degree = |product: &Product| product.iter().map(|(_, power)| power).sum::<u32>();
        let mut terms: Vec<_> = self.0.iter().collect();
        terms.sort_by(|a, b| degree(b.0).cmp(&degree(a.0)).then_with(|| a.0.cmp(b.0)));
        for (at, (product, coefficient)) in terms.into_iter().enumerate() {
            match (at, *coefficient < 0) {
                (0, true) => f.write_char('-')?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let scale = coefficient.unsigned_abs();
            let mut first = true;
            if scale != 1 || product.is_empty() {
                write!(f, "{scale}")?;
                first = false;
            }
            for (factor, power) in product {
                if !std::mem::take(&mut first) {
                    f.write_char('·')?;
                }
                write!(f, "{factor}")?;
                if *power > 1 {
                    write!(f, "^{power}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::Quotient(parts) => write!(f, "floor(({})/({}))", parts.0, parts.1),
            Self::Max(parts) => write!(f, "max({}, {})", parts.0, parts.1),
        }
    }
}
