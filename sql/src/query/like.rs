//! LIKE and ILIKE.

use super::scalar::mismatch;
use crate::error::SqlError;
use crate::rows::Value;

/// `%` stands for any text, `_` for any character, and a backslash takes that from what follows.
pub(super) fn like(value: &Value, pattern: &Value, ignores_case: bool) -> Result<bool, SqlError> {
    let (Value::Text(text), Value::Text(pattern)) = (value, pattern) else {
        return Err(mismatch("LIKE compares texts, not a value of type", value));
    };
    let fold = |text: &str| match ignores_case {
        true => text.to_lowercase(),
        false => text.to_owned(),
    };
    let text: Vec<char> = fold(text).chars().collect();
    let mut pattern_chars = Vec::new();
    let folded = fold(pattern);
    let mut chars = folded.chars();
    while let Some(c) = chars.next() {
        pattern_chars.push(match c {
            '%' => Wild::Any,
            '_' => Wild::One,
            '\\' => Wild::Char(chars.next().unwrap_or('\\')),
            c => Wild::Char(c),
        });
    }
    Ok(matches_wild(&text, &pattern_chars))
}

#[derive(Clone, Copy, PartialEq)]
enum Wild {
    Any,
    One,
    Char(char),
}

/// In time that grows with the product of both lengths, whatever the pattern.
fn matches_wild(text: &[char], pattern: &[Wild]) -> bool {
    let (mut at, mut place) = (0, 0);
    // The last `%`, and how much of the text it has taken.
    let mut last: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(place) {
            Some(Wild::Any) => {
                last = Some((place, at));
                place += 1;
            }
            Some(Wild::One) => {
                at += 1;
                place += 1;
            }
            Some(Wild::Char(c)) if *c == text[at] => {
                at += 1;
                place += 1;
            }
            _ => match last {
                Some((any, taken)) => {
                    last = Some((any, taken + 1));
                    at = taken + 1;
                    place = any + 1;
                }
                None => return false,
            },
        }
    }
    pattern[place.min(pattern.len())..]
        .iter()
        .all(|wild| *wild == Wild::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_in_little_time() {
        let matches = |text: &str, pattern: &str| {
            like(&Value::text(text), &Value::text(pattern), false).expect("texts")
        };
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "%", true),
            ("abc", "a%", true),
            ("abc", "%b%", true),
            ("abc", "_b_", true),
            ("abc", "ab", false),
            ("a%c", "a\\%c", true),
            ("abc", "a\\%c", false),
            ("aab", "%ab", true),
        ] {
            assert_eq!(matches(text, pattern), expected, "{text} {pattern}");
        }
        // A pattern that takes others an age.
        assert!(!matches(
            &"a".repeat(2000),
            &format!("{}b", "%a".repeat(200))
        ));
    }
}
