//! Maximum number of rejected records.

use std::fmt;
use std::str::FromStr;

/// Maximum number of rejected records of a successful run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RejectLimit {
    /// 1 % of the records, but at least 1 and at most 100.
    #[default]
    Strict,
    /// A number of records.
    Count(u64),
    /// A percentage of the records.
    Percent(f64),
}

/// Maximum number of rejected records by default, whatever the number of records.
const MOST_BY_DEFAULT: usize = 100;

impl RejectLimit {
    /// Returns true if `rejected` of `records` records are within the limit.
    pub fn allows(self, rejected: usize, records: usize) -> bool {
        let share = |percent: f64| rejected as f64 <= records as f64 * percent / 100.0;
        match self {
            Self::Strict => rejected <= 1 || (rejected <= MOST_BY_DEFAULT && share(1.0)),
            Self::Count(limit) => rejected as u64 <= limit,
            Self::Percent(limit) => share(limit),
        }
    }

    /// Returns true if the limit is exceeded whatever number of records follows.
    pub(super) fn is_exceeded(self, rejected: usize) -> bool {
        match self {
            Self::Strict => rejected > MOST_BY_DEFAULT,
            Self::Count(limit) => rejected as u64 > limit,
            Self::Percent(_) => false,
        }
    }
}

impl FromStr for RejectLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || format!("invalid limit `{text}`: expected a number of records (20) or a percentage (0.5%)");
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.trim().parse().map_err(|_| invalid())?;
            return if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(invalid()) };
        }
        text.parse().map(Self::Count).map_err(|_| invalid())
    }
}

impl fmt::Display for RejectLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict => f.write_str("1%, at least 1 and at most 100"),
            Self::Count(limit) => write!(f, "{limit}"),
            Self::Percent(limit) => write!(f, "{limit}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed_and_applied() {
        let strict = RejectLimit::default();
        assert!(strict.allows(0, 0) && strict.allows(1, 1) && strict.allows(2, 200) && strict.allows(100, 1_000_000));
        assert!(!strict.allows(2, 199) && !strict.allows(101, 1_000_000));
        let count: RejectLimit = "3".parse().expect("count");
        assert!(count.allows(3, 3) && !count.allows(4, 1_000_000));
        let percent: RejectLimit = "2.5%".parse().expect("percent");
        assert!(percent.allows(5, 200) && !percent.allows(6, 200) && percent.allows(0, 0));
        for invalid in ["", "-1", "%", "101%", "-2%", "NaN%", "many"] {
            assert!(invalid.parse::<RejectLimit>().is_err(), "{invalid}");
        }
    }
}
