//! Expressions as they are told, at sizes: the way back from what a registry shows.

use super::Sizes;

/// What a told expression is at these sizes; nothing where it is none, needs another size, or is negative or too large.
pub fn told_at(text: &str, sizes: &Sizes) -> Option<u64> {
    let mut reader = Reader { rest: text, sizes };
    let value = reader.sum()?;
    u64::try_from(value).ok().filter(|_| reader.rest.is_empty())
}

struct Reader<'a> {
    rest: &'a str,
    sizes: &'a Sizes,
}

impl Reader<'_> {
    fn takes(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn needs(&mut self, text: &str) -> Option<()> {
        self.takes(text).then_some(())
    }

    fn sum(&mut self) -> Option<i128> {
        let mut sum = if self.takes("-") { self.product()?.checked_neg()? } else { self.product()? };
        loop {
            if self.takes(" + ") {
                sum = sum.checked_add(self.product()?)?;
            } else if self.takes(" - ") {
                sum = sum.checked_sub(self.product()?)?;
            } else {
                return Some(sum);
            }
        }
    }

    fn product(&mut self) -> Option<i128> {
        let mut product = self.power()?;
        while self.takes("·") {
            product = product.checked_mul(self.power()?)?;
        }
        Some(product)
    }

    fn power(&mut self) -> Option<i128> {
        let factor = self.factor()?;
        if self.takes("^") { factor.checked_pow(self.number()?.try_into().ok()?) } else { Some(factor) }
    }

    fn factor(&mut self) -> Option<i128> {
        if self.takes("floor((") {
            let dividend = self.sum()?;
            self.needs(")/(")?;
            let divisor = self.sum()?;
            self.needs("))")?;
            return dividend.checked_div_euclid(divisor).filter(|_| divisor > 0);
        }
        if self.takes("max(") {
            let one = self.sum()?;
            self.needs(", ")?;
            let other = self.sum()?;
            self.needs(")")?;
            return Some(one.max(other));
        }
        // Names are of any letters, and one may begin with another.
        let named = self.sizes.iter().filter(|(name, _)| self.rest.starts_with(name.as_str()));
        match named.max_by_key(|(name, _)| name.len()) {
            Some((name, size)) => {
                self.rest = &self.rest[name.len()..];
                Some((*size).into())
            }
            None => self.number(),
        }
    }

    fn number(&mut self) -> Option<i128> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        digits.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Expr, *};

    #[test]
    fn what_is_told_is_at_sizes_what_it_was() {
        let symbol = |name| Expr::symbol(name).unwrap();
        let (n, m, odd) = (symbol("n"), symbol("nm"), symbol("2x - 1 [a]·"));
        let five = Expr::constant(5);
        let half = n.times(&m).and_then(|product| product.plus(&five)?.over(&Expr::constant(2))).unwrap();
        let exprs = [
            Expr::default(),
            five.clone(),
            n.times(&n).and_then(|square| square.times(&five)?.plus(&m)).unwrap(),
            half.clone(),
            half.larger(&m).unwrap(),
            m.smaller(&n).and_then(|least| least.plus(&odd.times(&five)?)).unwrap(),
            m.minus(&n).and_then(|difference| difference.over(&n.plus(&five)?)).unwrap(),
            n.minus(&m).unwrap(),
            odd.times(&odd).unwrap(),
        ];
        for sizes in [(7, 30, 2), (1, 1, 1), (900, 13, 65_536)] {
            let sizes = Sizes::from([
                ("n".to_owned(), sizes.0),
                ("nm".to_owned(), sizes.1),
                ("2x - 1 [a]·".to_owned(), sizes.2),
            ]);
            for expr in &exprs {
                assert_eq!(told_at(&expr.to_string(), &sizes), expr.at(&sizes), "{expr} at {sizes:?}");
            }
        }
    }

    #[test]
    fn what_was_never_told_is_nothing() {
        let sizes = Sizes::from([("n".to_owned(), 3)]);
        for text in [
            "",
            "m",
            "2·",
            "2 + ",
            "n^",
            "n^-1",
            "floor((n)/(0))",
            "max(n)",
            "2n",
            "n n",
            "3 - 2·n",
            "9".repeat(50).as_str(),
        ] {
            assert_eq!(told_at(text, &sizes), None, "{text}");
        }
        let most = "170141183460469231731687303715884105727";
        assert_eq!(told_at(&format!("{most}·n"), &sizes), None);
    }
}
