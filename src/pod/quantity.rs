//! Kubernetes' quantities: `100m`, `64Mi`, `1e3`.
//!
//! Source: `k8s.io/apimachinery/pkg/api/resource`: exact to a billionth, rounded up, capped at 2^63-1.

/// What Kubernetes says of anything that is not a quantity.
pub const MALFORMED: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// An amount, in billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

const NANO: i128 = 1_000_000_000;
const CAP: i128 = i64::MAX as i128 * NANO;

/// More digits than a capped quantity can hold; what comes after is rounded up.
const DIGITS: usize = 18;

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// # Errors
    /// [`MALFORMED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (mantissa, mut exponent) = decimal(number).ok_or(MALFORMED)?;
        let (factor, power) = suffix_of(suffix).ok_or(MALFORMED)?;
        exponent += power;
        let amount = scale(mantissa * factor, exponent + 9);
        Ok(Self(if negative { -amount } else { amount }))
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// In whole units, rounded up.
    pub fn value(self) -> i64 {
        self.in_units_of(NANO)
    }

    /// In thousandths, rounded up, as for CPUs.
    pub fn milli_value(self) -> i64 {
        self.in_units_of(NANO / 1000)
    }

    fn in_units_of(self, unit: i128) -> i64 {
        let up = (self.0 % unit > 0) as i128;
        i64::try_from(self.0 / unit + up).unwrap_or(i64::MAX)
    }
}

/// Digits with at most one point: all digits as a number, and the power of ten to multiply it with.
fn decimal(number: &str) -> Option<(i128, i32)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes());
    let digits = digits.skip_while(|d| *d == b'0');
    let (mut mantissa, mut exponent) = (0i128, -(i32::try_from(fraction.len()).ok()?));
    let mut more = false;
    for (position, digit) in digits.enumerate() {
        if position < DIGITS {
            mantissa = mantissa * 10 + i128::from(digit - b'0');
        } else {
            more |= digit != b'0';
            exponent += 1;
        }
    }
    Some((mantissa + i128::from(more), exponent))
}

/// A suffix as a factor and a power of ten.
fn suffix_of(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1i128 << (10 * power), 0));
    let ten = |power: i32| Some((1, power));
    match suffix {
        "" => ten(0),
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => ten(suffix.strip_prefix(['e', 'E'])?.parse().ok()?).filter(|(_, power)| {
            // Enough to reach the cap or a billionth from anything.
            power.abs() <= 1_000_000
        }),
    }
}

/// `number` times ten to the `power`, rounded up and capped.
fn scale(number: i128, power: i32) -> i128 {
    if number == 0 {
        return 0;
    }
    let ten = 10i128.checked_pow(power.unsigned_abs());
    let scaled = match (ten, power) {
        (Some(ten), 0..) => number.saturating_mul(ten),
        (None, 0..) => CAP,
        (Some(ten), _) => number / ten + i128::from(number % ten != 0),
        (None, _) => 1,
    };
    scaled.min(CAP)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_kubernetes_reads() {
        for (text, value, milli) in [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("0.5", 1, 500),
            (".5", 1, 500),
            ("1.", 1, 1000),
            ("+2", 2, 2000),
            ("-2", -2, -2000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("128Mi", 134_217_728, 134_217_728_000),
            ("1k", 1000, 1_000_000),
            ("1e3", 1000, 1_000_000),
            ("1E3", 1000, 1_000_000),
            ("1E", 1_000_000_000_000_000_000, i64::MAX),
            ("5e-1", 1, 500),
            ("1n", 1, 1),
            ("0.0000000001", 1, 1),
            ("1e400", i64::MAX, i64::MAX),
            ("1e-400", 1, 1),
            ("16Ei", i64::MAX, i64::MAX),
            (
                "99999999999999999999999999999999999999999999",
                i64::MAX,
                i64::MAX,
            ),
            ("0e400", 0, 0),
        ] {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!(quantity.value(), value, "{text}");
            assert_eq!(quantity.milli_value(), milli, "{text}");
        }
    }

    #[test]
    fn refuses_what_kubernetes_refuses() {
        for text in [
            "",
            "-",
            "m",
            ".",
            "1.2.3",
            "1KiB",
            "1mi",
            "1 Gi",
            "1e",
            "1e400Ki",
            "1e99999999999",
            "0x10",
            "½",
            "1_000",
            "--1",
            "NaN",
        ] {
            assert_eq!(Quantity::parse(text), Err(MALFORMED), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-+]?[0-9.]{0,50}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,12}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let _ = (quantity.value(), quantity.milli_value());
            }
        }

        #[test]
        fn keeps_whole_numbers(number in 0i64..i64::MAX / 1024) {
            prop_assert_eq!(Quantity::parse(&number.to_string()).unwrap().value(), number);
            prop_assert_eq!(Quantity::parse(&format!("{number}Ki")).unwrap().value(), number * 1024);
        }
    }
}
