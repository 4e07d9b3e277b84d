//! Words that are no names.

/// Words that a name may be only in double quotes: each of them goes on with a statement where a name could stand.
const RESERVED: [&str; 35] = [
    "all",
    "and",
    "as",
    "between",
    "by",
    "database",
    "distinct",
    "false",
    "for",
    "from",
    "full",
    "group",
    "if",
    "ilike",
    "in",
    "into",
    "is",
    "like",
    "limit",
    "not",
    "null",
    "of",
    "offset",
    "or",
    "order",
    "recurring",
    "select",
    "system",
    "table",
    "then",
    "true",
    "values",
    "virtual",
    "where",
    "with",
];

/// Variables of a session.
pub(crate) const VARIABLES: [&str; 22] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "database",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "integer_datetimes",
    "intervalstyle",
    "is_superuser",
    "lock_timeout",
    "password_encryption",
    "search_path",
    "server_encoding",
    "server_version",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_isolation",
    "use_backups_with_ids",
];

/// Whether a word in lower case has to be quoted to be a name.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word).is_ok()
}

/// Whether a name can be written without quotes.
pub(crate) fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    let starts = matches!(chars.next(), Some('a'..='z' | '_'));
    starts && chars.all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')) && !is_reserved(name)
}

/// The word of a list that was probably meant.
pub(crate) fn nearest<'a>(typed: &str, list: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One typing error in a short word, two in a longer one.
    let most = if typed.chars().count() < 5 { 1 } else { 2 };
    let distances = list.into_iter().map(|word| {
        let distance = strsim::damerau_levenshtein(&typed.to_uppercase(), &word.to_uppercase());
        (distance, word)
    });
    distances
        .filter(|(distance, _)| (1..=most).contains(distance))
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_words_are_in_order() {
        assert!(RESERVED.is_sorted() && VARIABLES.is_sorted());
        assert!(is_reserved("into") && !is_reserved("accounts"));
    }

    #[test]
    fn typing_errors_are_recognised() {
        let words = ["INTO", "FROM", "BACKUP", "SCHEDULES"];
        for (typed, meant) in [
            ("backpu", Some("BACKUP")),
            ("intoo", Some("INTO")),
            ("form", Some("FROM")),
            ("shedule", Some("SCHEDULES")),
            ("schedule", Some("SCHEDULES")),
            ("x", None),
            ("into", None),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed}");
        }
    }
}
