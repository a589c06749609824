//! Number formatting.

/// Text shown for an undefined number.
pub const NONE: &str = "n/a";

/// Formats an integer with thousands separators: 12,345.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with about four significant digits: 0.8312, 12.35, 12,346, 2.5e-5.
#[must_use]
pub fn value(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        return if number.is_nan() { NONE.to_owned() } else { format!("{}infinite", sign(number)) };
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e12).contains(&size) {
        return scientific(number, 3);
    }
    if size >= 999.95 {
        return format!("{}{}", sign(number), count(size.round() as u64));
    }
    // Digits before the point after rounding.
    let before = format!("{size:.1}").len() - 2;
    let decimals = match size {
        ..0.01 => 6,
        ..0.1 => 5,
        ..1.0 => 4,
        _ => 4_usize.saturating_sub(before),
    };
    trimmed(&format!("{number:.decimals$}"))
}

/// Formats a mean of counts, without digits that are noise: 6.6, 4.0, 163.
#[must_use]
pub fn mean(number: f64) -> String {
    match number.is_finite() {
        true if number.abs() < 99.95 => format!("{number:.1}"),
        true => format!("{}{}", sign(number), count(number.abs().round() as u64)),
        false => NONE.to_owned(),
    }
}

/// Formats the labels of an axis, all with the decimals that the smallest distance requires.
#[must_use]
pub fn ticks(values: &[f64]) -> Vec<String> {
    let most = values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let step = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(f64::INFINITY, f64::min);
    let wide = values.iter().filter(|value| **value != 0.0).fold(f64::INFINITY, |least, value| least.min(value.abs()));
    if !(1e-2..1e12).contains(&most) || (wide > 0.0 && most / wide >= 1e4 && values.iter().all(|value| *value != 0.0)) {
        return values.iter().map(|&value| if value == 0.0 { "0".to_owned() } else { scientific(value, 3) }).collect();
    }
    let suffixes = [(1e9, "G"), (1e6, "M"), (1e4, "k")];
    let (unit, suffix) = match suffixes.into_iter().find(|(least, _)| most >= *least) {
        Some((_, "k")) => (1e3, "k"),
        Some(found) => found,
        None => (1.0, ""),
    };
    let smallest = if step.is_finite() && step > 0.0 { step / unit } else { most / unit };
    // Up to one decimal more than the first digit of the step, as for 0.25.
    let decimals = (0..=9).find(|&decimals| {
        let shifted = smallest * 10_f64.powi(decimals);
        shifted >= 0.999 && (shifted - shifted.round()).abs() < 1e-6 * shifted.max(1.0)
    });
    let decimals = decimals.unwrap_or(4).max(0) as usize;
    values
        .iter()
        .map(|&value| if value == 0.0 { "0".to_owned() } else { format!("{:.decimals$}{suffix}", value / unit) })
        .collect()
}

/// Formats a fraction as a percentage: 45.8 %.
#[must_use]
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { NONE.to_owned() }
}

/// Formats a small fraction as a percentage with two significant digits: 0.012 %, 3.4 %, 0 %.
#[must_use]
pub fn rare(share: f64) -> String {
    let percent = 100.0 * share;
    if !percent.is_finite() {
        return NONE.to_owned();
    }
    let decimals = (0..6).find(|&decimals| percent.abs() * 10_f64.powi(decimals) >= 9.95).unwrap_or(6);
    format!("{} %", trimmed(&format!("{percent:.*}", decimals as usize)))
}

/// Formats a duration: 0.4 s, 45 s, 3 min 5 s, 2 h 10 min, 3 d 4 h.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !(seconds.is_finite() && seconds >= 0.0) {
        return NONE.to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let two = |large: u64, small: u64, names: [&str; 2]| match small {
        0 => format!("{large} {}", names[0]),
        _ => format!("{large} {} {small} {}", names[0], names[1]),
    };
    match whole {
        ..60 => format!("{whole} s"),
        60..3600 => two(whole / 60, whole % 60, ["min", "s"]),
        3600..86_400 => two(whole / 3600, whole % 3600 / 60, ["h", "min"]),
        _ => two(whole / 86_400, whole % 86_400 / 3600, ["d", "h"]),
    }
}

/// Formats a size in bytes: 512 bytes, 9.9 GB.
#[must_use]
pub fn bytes(number: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| number as f64 >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", number as f64 / unit),
        None => format!("{number} bytes"),
    }
}

/// Formats a number of operations per second: 1.1 GFLOP/s, 312 TFLOP/s.
#[must_use]
pub fn operations(number: f64) -> String {
    let units = [(1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s")];
    let (unit, name) = units.into_iter().find(|(unit, _)| number >= *unit).unwrap_or((1e6, "MFLOP/s"));
    format!("{} {name}", mean(number / unit))
}

/// Formats seconds since the Unix epoch: 2026-02-28 13:05 UTC.
#[must_use]
pub fn moment(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years start in March, so that a leap day is the last of its year; an era is 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

fn sign(number: f64) -> &'static str {
    if number < 0.0 { "-" } else { "" }
}

/// Formats a number as 2.5e-5, with at most `digits` significant digits.
fn scientific(number: f64, digits: usize) -> String {
    let text = format!("{number:.*e}", digits - 1);
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trimmed(mantissa)),
        None => text,
    }
}

/// Removes trailing zeros of a decimal fraction.
fn trimmed(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_short() {
        let values = [0.0, 0.831_24, 12.3456, 12_345.6, 2.5e-5, -3.0, 999.96, 0.012_346, f64::NAN, f64::NEG_INFINITY, 1e15];
        let texts = ["0", "0.8312", "12.35", "12,346", "2.5e-5", "-3", "1,000", "0.01235", NONE, "-infinite", "1e15"];
        assert_eq!(values.map(value), texts);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.4, 45.2, 185.0, 7800.0, 273_600.0].map(duration),
            ["0.4 s", "45 s", "3 min 5 s", "2 h 10 min", "3 d 4 h"]
        );
        assert_eq!([12, 9_900_000_000].map(bytes), ["12 bytes", "9.9 GB"]);
        assert_eq!([1.06e9, 3.12e14, 2e15, 5e5].map(operations), ["1.1 GFLOP/s", "312 TFLOP/s", "2.0 PFLOP/s", "0.5 MFLOP/s"]);
        assert_eq!(percent(0.4576), "45.8 %");
        let rare = [0.0, 0.000_123_4, 0.034, 0.456, 1e-12, f64::NAN].map(rare);
        assert_eq!(rare, ["0 %", "0.012 %", "3.4 %", "46 %", "0 %", NONE]);
        assert_eq!([6.628, 9.96, 163.4, 4567.8, f64::NAN].map(mean), ["6.6", "10.0", "163", "4,568", NONE]);
    }

    #[test]
    fn dates_follow_the_calendar() {
        let days = [0, 951_782_400, 951_868_800, 1_709_210_100, 4_107_542_399];
        let texts = ["1970-01-01 00:00", "2000-02-29 00:00", "2000-03-01 00:00", "2024-02-29 12:35", "2100-02-28 23:59"];
        assert_eq!(days.map(moment), texts.map(|text| format!("{text} UTC")));
    }

    #[test]
    fn ticks_have_the_required_decimals() {
        assert_eq!(ticks(&[0.0, 0.5, 1.0]), ["0", "0.5", "1.0"]);
        assert_eq!(ticks(&[2.25, 2.5]), ["2.25", "2.50"]);
        assert_eq!(ticks(&[0.0, 10_000.0, 20_000.0]), ["0", "10k", "20k"]);
        assert_eq!(ticks(&[0.0, 5e-6, 1e-5]), ["0", "5e-6", "1e-5"]);
        assert_eq!(ticks(&[0.01, 1.0, 100.0]), ["1e-2", "1e0", "1e2"]);
        assert_eq!(ticks(&[]), [] as [&str; 0]);
    }

    proptest! {
        #[test]
        fn values_parse_back(number in prop_oneof![-1e3..1e3_f64, -1e9..1e9_f64, -1e-6..1e-6_f64]) {
            let read: f64 = value(number).replace(',', "").parse().expect("a number");
            prop_assert!((read - number).abs() <= 0.006 * number.abs() + 1e-300, "{} {}", number, read);
        }

        #[test]
        fn thousands_are_separated(number: u64) {
            let text = count(number);
            prop_assert_eq!(text.replace(',', ""), number.to_string());
            prop_assert!(text.split(',').skip(1).all(|group| group.len() == 3));
        }
    }
}
