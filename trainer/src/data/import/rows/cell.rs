//! A cell of a table, a line of JSON or a Parquet column, and what can be read from it: a name, a
//! number, a moment.

use std::borrow::Cow;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// Nothing: null, or a key that is not there.
    Null,
    /// Text, as it stands in the file.
    Text(Cow<'a, str>),
    /// A whole number.
    Whole(i64),
    /// Another number.
    Real(f64),
    /// A moment in milliseconds since 1970, where the file's own type says so.
    Moment(i64),
    /// A list.
    Texts(Vec<String>),
}

impl Cell<'_> {
    /// The value as words; none where there is none, or spaces only.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        let text: Cow<str> = match self {
            Cell::Null => return None,
            Cell::Text(t) => t.trim().into(),
            Cell::Whole(n) | Cell::Moment(n) => n.to_string().into(),
            Cell::Real(x) if x.fract() == 0.0 && x.abs() < 1e15 => (*x as i64).to_string().into(),
            Cell::Real(x) => x.to_string().into(),
            Cell::Texts(all) => all.join(" ").trim().to_string().into(),
        };
        if text.is_empty() { None } else { Some(text) }
    }

    /// The value as several: a list's elements, a text cut at `separator`.
    pub fn texts(&self, separator: Option<char>) -> Vec<String> {
        match (self, separator) {
            (Cell::Texts(all), _) => all.clone(),
            (cell, Some(c)) => {
                cell.text().map(|t| t.split(c).map(str::to_string).collect()).unwrap_or_default()
            }
            (cell, None) => cell.text().map(|t| vec![t.into_owned()]).unwrap_or_default(),
        }
    }

    /// The value as a finite number; none where there is none.
    ///
    /// # Errors
    /// What stands there instead.
    pub fn number(&self) -> Result<Option<f64>, String> {
        let value = match self {
            Cell::Whole(n) => *n as f64,
            Cell::Real(x) => *x,
            cell => match cell.text() {
                None => return Ok(None),
                Some(t) => t.parse().map_err(|_| format!("{:?} is no number", shown(&t)))?,
            },
        };
        if value.is_finite() {
            Ok(Some(value))
        } else {
            Err(format!("{value}; finite numbers only"))
        }
    }
}

/// The head of a text, for messages.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}

/// What a number in a time column counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeUnit {
    /// By the size of the number: below 10¹¹ seconds, 10¹⁴ milliseconds, 10¹⁷ microseconds, else
    /// nanoseconds. Right for every moment from 1973 on.
    #[default]
    Auto,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
    /// Nanoseconds since 1970.
    Nanos,
}

/// The moments that are taken for times, in milliseconds: the years −9999 to 9999.
const FARTHEST: f64 = 377_705_116_800_000.0;

/// A cell as milliseconds since 1970: a number, or a date as ISO 8601 writes it.
///
/// # Errors
/// What stands there instead.
pub fn millis(cell: &Cell, unit: TimeUnit) -> Result<Option<i64>, String> {
    let number = match cell {
        Cell::Null => return Ok(None),
        Cell::Moment(ms) => return Ok(Some(*ms)),
        Cell::Whole(n) => *n as f64,
        Cell::Real(x) => *x,
        cell => match cell.text() {
            None => return Ok(None),
            Some(t) => match t.parse::<f64>() {
                Ok(x) => x,
                Err(_) => {
                    return date(&t).map(Some).ok_or_else(|| {
                        let t = shown(&t);
                        format!("{t:?} is no time; seconds since 1970 or 2018-11-30T12:00:00Z are")
                    });
                }
            },
        },
    };
    let scale = match unit {
        TimeUnit::Seconds => 1e3,
        TimeUnit::Millis => 1.0,
        TimeUnit::Micros => 1e-3,
        TimeUnit::Nanos => 1e-6,
        TimeUnit::Auto => match number.abs() {
            x if x < 1e11 => 1e3,
            x if x < 1e14 => 1.0,
            x if x < 1e17 => 1e-3,
            _ => 1e-6,
        },
    };
    let ms = (number * scale).floor();
    if ms.abs() > FARTHEST || !ms.is_finite() {
        return Err(format!("{number} is no time of the years to 9999; see --time-unit"));
    }
    Ok(Some(ms as i64))
}

/// `2018-11-30`, `2018/11/30`, with ` 12:00`, `T12:00:00.5`, `Z` or `+01:00` behind it, as milliseconds.
pub fn date(text: &str) -> Option<i64> {
    let text = text.trim();
    let (day, clock) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    };
    let mut parts = day.splitn(3, ['-', '/']);
    let mut part = |len: std::ops::RangeInclusive<usize>| {
        let p = parts.next()?;
        let digits = p.bytes().all(|b| b.is_ascii_digit());
        if digits && len.contains(&p.len()) { p.parse::<i64>().ok() } else { None }
    };
    let (y, m, d) = (part(4..=4)?, part(1..=2)?, part(1..=2)?);
    let leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    let days = match m {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&d) {
        return None;
    }
    Some(days_since_1970(y, m, d) * 86_400_000 + clock_millis(clock)?)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, whose years begin in March here so that
/// leap days come last.
fn days_since_1970(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + day_of_year - 719_468
}

fn clock_millis(clock: &str) -> Option<i64> {
    if clock.is_empty() {
        return Some(0);
    }
    let (clock, ahead) = match clock.find(['Z', 'z', '+', '-']) {
        None => (clock, 0),
        Some(at) if clock[at..].eq_ignore_ascii_case("z") => (&clock[..at], 0),
        Some(at) => {
            let zone: String = clock[at + 1..].chars().filter(|c| *c != ':').collect();
            if !matches!(zone.len(), 2 | 4) || !zone.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let hours: i64 = zone[..2].parse().ok()?;
            let minutes =
                60 * hours + zone.get(2..).map_or(Some(0), |m| m.parse().ok().or(Some(0)))?;
            (&clock[..at], if clock[at..].starts_with('+') { minutes } else { -minutes })
        }
    };
    let mut parts = clock.trim().split(':');
    let (h, m) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
    let s = parts.next().map_or(Some(0.0), |s| s.parse::<f64>().ok())?;
    if h > 24 || m > 59 || !(0.0..61.0).contains(&s) || parts.next().is_some() {
        return None;
    }
    Some((i64::from(60 * h + m) - ahead) * 60_000 + (s * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_as_files_write_them() {
        let at = |t: &'static str| millis(&Cell::Text(t.into()), TimeUnit::Auto).ok().flatten();
        assert_eq!(at("881250949"), Some(881_250_949_000));
        assert_eq!(at("1589665266052"), Some(1_589_665_266_052)); // Amazon 2023
        assert_eq!(at("1589665266052000"), Some(1_589_665_266_052));
        assert_eq!(at("2000-03-01"), Some(951_868_800_000));
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Some(1_500));
        assert_eq!(at("2018/11/30 12:00"), at("2018-11-30T13:00:00+01:00"));
        assert_eq!(at("1969-12-31 23:59:59"), Some(-1000));
        for bad in [
            "2018-02-29",
            "2018-13-01",
            "soon",
            "2018-1",
            "NaN",
            "1e300",
            "18-01-01",
            "2018-11-30Tx",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
        assert_eq!(millis(&Cell::Whole(5), TimeUnit::Millis), Ok(Some(5)));
        assert_eq!(millis(&Cell::Text(" ".into()), TimeUnit::Auto), Ok(None));
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(Cell::Real(12.0).text().unwrap(), "12");
        assert_eq!(Cell::Text("  ".into()).text(), None);
        assert_eq!(Cell::Text("4.5".into()).number(), Ok(Some(4.5)));
        assert!(Cell::Text("inf".into()).number().is_err());
        assert_eq!(Cell::Text("a|b".into()).texts(Some('|')), ["a", "b"]);
    }
}
