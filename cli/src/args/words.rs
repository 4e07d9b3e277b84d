//! Statements on the command line: `backup SOURCE INTO URI`, `restore FROM URI`.

use holdfast_types::{ErrorCode, Fault};

/// What stands before a keyword, and after it.
pub(crate) type Halves = (Option<String>, Option<String>);

/// The URI of a collection's default store, and those of others.
pub(crate) type Stores = (String, Vec<String>);

/// Reads `[BEFORE] [KEYWORD AFTER]`.
pub(crate) fn read_words(words: &[String], keyword: &str) -> Result<Halves, Fault> {
    let is_keyword = |word: &String| word.eq_ignore_ascii_case(keyword);
    match words {
        [] => Ok((None, None)),
        [before] if !is_keyword(before) => Ok((Some(before.clone()), None)),
        [word, after] if is_keyword(word) => Ok((None, Some(after.clone()))),
        [before, word, after] if is_keyword(word) => {
            Ok((Some(before.clone()), Some(after.clone())))
        }
        _ => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("expected [SOURCE] [{keyword} URI]"),
        )),
    }
}

/// What was said in one of two ways, and must be said in one of them.
pub(crate) fn either(
    option: Option<String>,
    word: Option<String>,
    what: &str,
    hint: &str,
) -> Result<String, Fault> {
    match (option, word) {
        (Some(value), None) | (None, Some(value)) => Ok(value),
        (None, None) => {
            Err(Fault::new(ErrorCode::InvalidArgument, format!("{what} is missing")).hint(hint))
        }
        (Some(_), Some(_)) => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("{what} is given twice"),
        )),
    }
}

/// The URIs of all stores of a collection: that of the statement, and those of options. At least one must be there.
pub(crate) fn stores(
    options: Vec<String>,
    word: Option<String>,
    hint: &str,
) -> Result<Stores, Fault> {
    let mut all = word.into_iter().chain(options);
    match all.next() {
        Some(first) => Ok((first, all.collect())),
        None => Err(Fault::new(ErrorCode::InvalidArgument, "the collection is missing").hint(hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_read() {
        let read = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            read_words(&words, "INTO")
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read(""), Ok((None, None)));
        assert_eq!(read("bank"), Ok((some("bank"), None)));
        assert_eq!(read("INTO u"), Ok((None, some("u"))));
        assert_eq!(read("bank into u"), Ok((some("bank"), some("u"))));
        for wrong in ["INTO", "bank INTO", "bank u", "bank at u"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(either(None, some("u"), "x", "y"), Ok("u".to_owned()));
        assert!(either(some("u"), some("u"), "x", "y").is_err());
        assert!(either(None, None, "x", "y").is_err());
    }
}
