//! Python literals as `repr` writes them: lists of whole numbers or of strings in CSV cells, dicts as
//! lines of Amazon's 2014 metadata. A string is quoted by `'`, or by `"` where it holds a `'`; JSON
//! readers cannot take that.

use serde_json::{Map, Number, Value};
use std::fmt;

/// Where a cell stops being a list, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiteralError {
    /// Character in the cell, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for LiteralError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "character {}: {}", self.column, self.problem)
    }
}

type Result<T> = std::result::Result<T, LiteralError>;

/// Appends the whole numbers of a list such as `[3, 14]` to `out`; returns how many.
///
/// # Errors
/// The first character that does not belong there.
pub fn integers(cell: &str, out: &mut Vec<i64>) -> Result<usize> {
    let before = out.len();
    let mut p = Parser { text: cell, at: 0 };
    p.list(|p| {
        let from = p.at;
        p.take_while(|c| c == '-' || c == '+' || c.is_ascii_digit());
        let number = p.text[from..p.at].parse().map_err(|_| p.error(from, "no whole number"))?;
        out.push(number);
        Ok(())
    })?;
    Ok(out.len() - before)
}

/// The strings of a list such as `['a', "it's"]`, with Python's escapes resolved.
///
/// # Errors
/// The first character that does not belong there.
pub fn strings(cell: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut p = Parser { text: cell, at: 0 };
    p.list(|p| {
        all.push(p.string()?);
        Ok(())
    })?;
    Ok(all)
}

/// Any literal of dicts, lists, tuples, strings, numbers, `True`, `False`, `None`, as the JSON value that
/// it amounts to (a number that JSON does not have becomes null). Of a key that occurs twice the last
/// value counts, as in Python.
///
/// # Errors
/// The first character that does not belong there; more than 64 brackets within each other.
pub fn value(text: &str) -> Result<Value> {
    let mut p = Parser { text, at: 0 };
    let value = p.value(0)?;
    p.take_while(char::is_whitespace);
    match p.peek() {
        None => Ok(value),
        Some(c) => Err(p.error(p.at, format!("{c:?} after the literal"))),
    }
}

/// Brackets within brackets that [`value`] follows.
const MAX_DEPTH: usize = 64;

struct Parser<'a> {
    text: &'a str,
    /// Byte offset, always on a character boundary.
    at: usize,
}

impl Parser<'_> {
    fn error(&self, at: usize, problem: impl Into<String>) -> LiteralError {
        let column = self.text[..at].chars().count() + 1;
        LiteralError { column, problem: problem.into() }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&keep) {
            self.next();
        }
    }

    fn expect(&mut self, want: char) -> Result<()> {
        self.take_while(char::is_whitespace);
        match self.peek() {
            Some(c) if c == want => {
                self.next();
                Ok(())
            }
            Some(c) => Err(self.error(self.at, format!("{c:?} where {want:?} should stand"))),
            None => Err(self.error(self.at, format!("the cell ends where {want:?} should stand"))),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        self.take_while(char::is_whitespace);
        let from = self.at;
        if depth > MAX_DEPTH {
            return Err(
                self.error(from, format!("more than {MAX_DEPTH} brackets within each other"))
            );
        }
        match self.peek() {
            Some('{') => {
                let mut map = Map::new();
                self.between('{', '}', |p| {
                    let key = match p.value(depth + 1)? {
                        Value::String(key) => key,
                        other => other.to_string(),
                    };
                    p.expect(':')?;
                    map.insert(key, p.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Object(map))
            }
            Some(open @ ('[' | '(')) => {
                let mut all = Vec::new();
                let close = if open == '[' { ']' } else { ')' };
                self.between(open, close, |p| {
                    all.push(p.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Array(all))
            }
            Some('\'' | '"') => self.string().map(Value::String),
            Some('u' | 'b') if self.text[from + 1..].starts_with(['\'', '"']) => {
                self.next(); // Python 2 marks its kinds of strings
                self.string().map(Value::String)
            }
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value> {
        let from = self.at;
        self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
        match &self.text[from..self.at] {
            "True" => Ok(Value::Bool(true)),
            "False" => Ok(Value::Bool(false)),
            "None" => Ok(Value::Null),
            word => match (word.parse::<i64>(), word.parse::<f64>()) {
                (Ok(n), _) => Ok(n.into()),
                (Err(_), Ok(x)) => Ok(Number::from_f64(x).map_or(Value::Null, Value::Number)),
                (Err(_), Err(_)) => Err(self.error(from, "no literal of Python")),
            },
        }
    }

    /// `open`, elements with commas between (one may trail, as in Python), `close`.
    fn between(
        &mut self,
        open: char,
        close: char,
        mut element: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.expect(open)?;
        loop {
            self.take_while(char::is_whitespace);
            if self.peek() == Some(close) {
                break;
            }
            element(self)?;
            self.take_while(char::is_whitespace);
            if self.peek() != Some(',') {
                break;
            }
            self.next();
        }
        self.expect(close)
    }

    /// A list and nothing else.
    fn list(&mut self, element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.between('[', ']', element)?;
        self.take_while(char::is_whitespace);
        match self.peek() {
            None => Ok(()),
            Some(c) => Err(self.error(self.at, format!("{c:?} after the list"))),
        }
    }

    fn string(&mut self) -> Result<String> {
        let from = self.at;
        let quote = match self.next() {
            Some(c @ ('\'' | '"')) => c,
            _ => return Err(self.error(from, "no quoted string")),
        };
        let mut value = String::new();
        loop {
            let at = self.at;
            match self.next() {
                None => return Err(self.error(from, "a string that is never closed")),
                Some(c) if c == quote => return Ok(value),
                Some('\\') => self.escape(at, &mut value)?,
                Some(c) => value.push(c),
            }
        }
    }

    fn escape(&mut self, at: usize, value: &mut String) -> Result<()> {
        let digits = match self.next() {
            Some('n') => return done(value, '\n'),
            Some('t') => return done(value, '\t'),
            Some('r') => return done(value, '\r'),
            Some('a') => return done(value, '\x07'),
            Some('b') => return done(value, '\x08'),
            Some('f') => return done(value, '\x0c'),
            Some('v') => return done(value, '\x0b'),
            Some('0') => return done(value, '\0'),
            Some(c @ ('\\' | '\'' | '"')) => return done(value, c),
            Some('\n') => return Ok(()), // a continued line
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(c) => {
                value.push('\\'); // Python keeps what it does not know
                return done(value, c);
            }
            None => return Err(self.error(at, "a backslash at the end")),
        };
        let hex = self.text.get(self.at..self.at + digits);
        let hex = hex.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = hex.and_then(|h| u32::from_str_radix(h, 16).ok());
        self.at += if hex.is_some() { digits } else { 0 };
        match code.map(|c| char::from_u32(c).unwrap_or('\u{fffd}')) {
            Some(c) => done(value, c), // half of a surrogate pair becomes U+FFFD
            None => Err(self.error(at, format!("an escape without {digits} hexadecimal digits"))),
        }
    }
}

fn done(value: &mut String, c: char) -> Result<()> {
    value.push(c);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_python_writes_them() {
        let mut out = vec![9];
        assert_eq!(integers("[3437, 642,-2 ]", &mut out), Ok(3));
        assert_eq!(out, [9, 3437, 642, -2]);
        assert_eq!(integers(" [] ", &mut out), Ok(0));
        assert_eq!(
            strings(r#"['a, b', "it's", 'q\'"', '\xe9\u20ac\n\d',]"#).unwrap(),
            ["a, b", "it's", "q'\"", "é€\n\\d"]
        );
        assert_eq!(strings("[]").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn dicts_as_python_writes_them() {
        let text = r#"{'asin': '01', "title": "it's", 'price': 9.5, 'n': -3, 'none': None, 'x': nan,
            'categories': [['A', u'B'],], 'salesRank': {'Beauty': (1, 2)}, 'ok': True}"#;
        let want = serde_json::json!({"asin": "01", "title": "it's", "price": 9.5, "n": -3, "none": null,
            "x": null, "categories": [["A", "B"]], "salesRank": {"Beauty": [1, 2]}, "ok": true});
        assert_eq!(value(text).unwrap(), want);
        assert_eq!(value("{'a': b}").unwrap_err().column, 7);
        assert_eq!(value("{'a' 1}").unwrap_err().column, 6);
        assert_eq!(value("[1] 2").unwrap_err().column, 5);
        assert!(value(&"[".repeat(100_000)).unwrap_err().problem.contains("64"));
        assert!(value("").is_err() && value("{").is_err() && value("{'a': 'b").is_err());
    }

    #[test]
    fn errors_name_the_character() {
        let place = |e: LiteralError| e.column;
        assert_eq!(place(strings("['a' 'b']").unwrap_err()), 6);
        assert_eq!(place(strings("['é', b]").unwrap_err()), 7);
        assert_eq!(place(strings("['open").unwrap_err()), 2);
        assert_eq!(place(strings(r"['\x4']").unwrap_err()), 3);
        assert_eq!(place(strings(r"['\xé']").unwrap_err()), 3);
        assert_eq!(place(strings("['a'").unwrap_err()), 5);
        let mut none = Vec::new();
        assert_eq!(place(integers("", &mut none).unwrap_err()), 1);
        assert_eq!(place(integers("[1, x]", &mut none).unwrap_err()), 5);
        assert_eq!(place(integers("[1] 2", &mut none).unwrap_err()), 5);
        assert_eq!(place(integers("[99999999999999999999]", &mut none).unwrap_err()), 2);
    }
}
