//! Tokens.
//!
//! Written by hand rather than taken from `sqlparser`: an error has to point at a byte of what was typed (that crate gives lines and columns), the grammar
//! is not the one that it parses (`FROM [SHOW JOBS]`), and what is left after that is this one file.

use crate::error::SqlError;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// Bytes of the text.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    /// A keyword or a name, in lower case.
    Word(String),
    /// A name in double quotes, as it is.
    Name(String),
    /// A text.
    Text(String),
    /// A number without sign.
    Number(String),
    /// `$1`.
    Placeholder(u16),
    /// Punctuation.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

/// Longest first.
const SYMBOLS: [&str; 23] = [
    "::", "<=", ">=", "<>", "!=", "||", "(", ")", "[", "]", ",", ";", "=", "<", ">", "+", "-", "*",
    "/", "%", ".", "~", "^",
];

/// Cuts a text into tokens; the last one is [`TokenKind::End`].
///
/// # Errors
/// Something is not closed, or is no token.
pub(crate) fn tokens(sql: &str) -> Result<Vec<Token>, SqlError> {
    let mut lexer = Lexer { sql, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank()?;
        let start = lexer.at;
        let kind = lexer.next(start)?;
        let is_end = kind == TokenKind::End;
        tokens.push(Token {
            kind,
            start,
            end: lexer.at,
        });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

fn is_name_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_name_part(c: char) -> bool {
    c == '_' || c == '$' || c.is_alphanumeric()
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.sql.get(self.at..).unwrap_or_default()
    }

    fn error(&self, start: usize, what: &str) -> SqlError {
        SqlError::syntax(what).at(self.sql, start)
    }

    /// The characters that a condition holds for, and moves behind them.
    fn take_while(&mut self, mut holds: impl FnMut(char) -> bool) -> &str {
        let start = self.at;
        let length: usize = (self.rest().chars())
            .take_while(|c| holds(*c))
            .map(char::len_utf8)
            .sum();
        self.at += length;
        &self.sql[start..self.at]
    }

    fn skip_blank(&mut self) -> Result<(), SqlError> {
        loop {
            self.take_while(|c| c.is_whitespace() || c == '\u{feff}');
            if self.rest().starts_with("--") {
                self.take_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                self.skip_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Comments nest.
    fn skip_comment(&mut self) -> Result<(), SqlError> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            let rest = self.rest();
            if rest.starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if rest.starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else {
                match rest.chars().next() {
                    Some(c) => self.at += c.len_utf8(),
                    None => return Err(self.error(start, "unterminated comment")),
                }
            }
        }
    }

    fn next(&mut self, start: usize) -> Result<TokenKind, SqlError> {
        let mut chars = self.rest().chars();
        let Some(first) = chars.next() else {
            return Ok(TokenKind::End);
        };
        let second = chars.next();
        match (first, second) {
            ('\'', _) => self.quoted('\'', false).map(TokenKind::Text),
            ('"', _) => match self.quoted('"', false)? {
                name if name.is_empty() => {
                    Err(self.error(start, "a name in double quotes is empty"))
                }
                name => Ok(TokenKind::Name(name)),
            },
            ('e' | 'E', Some('\'')) => {
                self.at += 1;
                self.quoted('\'', true).map(TokenKind::Text)
            }
            ('$', Some('0'..='9')) => {
                self.at += 1;
                let number = self.take_while(|c| c.is_ascii_digit()).parse();
                match number {
                    Ok(number) if number > 0 => Ok(TokenKind::Placeholder(number)),
                    _ => Err(self.error(start, "placeholders are numbered from $1 to $65535")),
                }
            }
            ('$', _) => self.dollar_quoted(start),
            ('0'..='9', _) | ('.', Some('0'..='9')) => self.number(start),
            (c, _) if is_name_start(c) => {
                let word = self.take_while(is_name_part).to_lowercase();
                Ok(TokenKind::Word(word))
            }
            _ => {
                let rest = self.rest();
                match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                    Some(symbol) => {
                        self.at += symbol.len();
                        Ok(TokenKind::Symbol(symbol))
                    }
                    None => Err(self.error(
                        start,
                        &format!("\"{}\" begins nothing", first.escape_debug()),
                    )),
                }
            }
        }
    }

    /// What stands between two quotes; a doubled one stands for itself.
    fn quoted(&mut self, quote: char, has_escapes: bool) -> Result<String, SqlError> {
        let start = self.at;
        self.at += quote.len_utf8();
        let mut text = String::new();
        loop {
            let mut chars = self.rest().chars();
            match (chars.next(), chars.next()) {
                (None, _) => {
                    let what = match quote {
                        '"' => "unterminated name in double quotes",
                        _ => "unterminated text: its closing quote is missing",
                    };
                    return Err(self.error(start, what));
                }
                (Some('\0'), _) => return Err(self.error(self.at, "a text cannot hold a NUL")),
                (Some(first), Some(second)) if first == quote && second == quote => {
                    text.push(quote);
                    self.at += 2 * quote.len_utf8();
                }
                (Some(first), _) if first == quote => {
                    self.at += quote.len_utf8();
                    return Ok(text);
                }
                (Some('\\'), Some(escaped)) if has_escapes => {
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        '\\' | '\'' | '"' => escaped,
                        _ => {
                            return Err(self.error(
                                self.at,
                                "this escape is not known: \\n, \\t, \\r, \\b, \\f, \\\\ and \\' are",
                            ));
                        }
                    });
                    self.at += 1 + escaped.len_utf8();
                }
                (Some(first), _) => {
                    text.push(first);
                    self.at += first.len_utf8();
                }
            }
        }
    }

    /// `$$…$$` and `$tag$…$tag$`.
    fn dollar_quoted(&mut self, start: usize) -> Result<TokenKind, SqlError> {
        self.at += 1;
        let tag = self
            .take_while(|c| c == '_' || c.is_alphanumeric())
            .to_owned();
        if !self.rest().starts_with('$') {
            return Err(self.error(start, "\"$\" begins neither a placeholder nor a text"));
        }
        self.at += 1;
        let close = format!("${tag}$");
        match self.rest().find(&close) {
            Some(length) => {
                let text = self.rest()[..length].to_owned();
                self.at += length + close.len();
                if text.contains('\0') {
                    return Err(self.error(start, "a text cannot hold a NUL"));
                }
                Ok(TokenKind::Text(text))
            }
            None => Err(self.error(start, &format!("unterminated text: its {close} is missing"))),
        }
    }

    fn number(&mut self, start: usize) -> Result<TokenKind, SqlError> {
        self.take_while(|c| c.is_ascii_digit());
        if self.rest().starts_with('.') {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        let mut exponent = self.rest().chars();
        if matches!(exponent.next(), Some('e' | 'E')) {
            let signed = matches!(exponent.next(), Some('+' | '-'));
            let at = self.at;
            self.at += 1 + usize::from(signed);
            if self.take_while(|c| c.is_ascii_digit()).is_empty() {
                self.at = at;
            }
        }
        if self.rest().starts_with(is_name_start) {
            return Err(self.error(start, "a number ends in letters: quote it if it is a name"));
        }
        Ok(TokenKind::Number(self.sql[start..self.at].to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(sql: &str) -> Vec<TokenKind> {
        let tokens = tokens(sql).expect(sql);
        tokens.into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn every_kind_of_token_is_read() {
        use TokenKind::{End, Name, Number, Placeholder, Symbol, Text, Word};
        let text = |text: &str| Text(text.to_owned());
        let number = |text: &str| Number(text.to_owned());
        for (sql, expected) in [
            ("Show", Word("show".into())),
            ("\"Show\"\"x\"", Name("Show\"x".into())),
            ("'it''s'", text("it's")),
            (r"E'a\n\'b\\'", text("a\n'b\\")),
            ("$$it's$$", text("it's")),
            ("$q$a$$b$q$", text("a$$b")),
            ("$12", Placeholder(12)),
            ("12", number("12")),
            ("1.5", number("1.5")),
            ("1e9", number("1e9")),
            (
                "1763924880500000.0000000001",
                number("1763924880500000.0000000001"),
            ),
            ("::", Symbol("::")),
            ("<>", Symbol("<>")),
        ] {
            assert_eq!(kinds(sql), [expected, End], "{sql}");
        }
        assert_eq!(kinds("-- a\n /* b /* c */ d */"), [End]);
        assert_eq!(kinds("äöü"), [Word("äöü".into()), End]);
    }

    #[test]
    fn what_is_not_closed_is_pointed_at() {
        for (sql, position, what) in [
            ("a 'b", 3, "closing quote"),
            ("ä \"b", 3, "double quotes"),
            ("/* a /* b */", 1, "comment"),
            ("$q$ $$", 1, "$q$"),
            ("a ?", 3, "\"?\""),
            ("$0", 1, "placeholders"),
            ("1x", 1, "letters"),
            ("\"\"", 1, "empty"),
        ] {
            let error = tokens(sql).expect_err(sql);
            assert_eq!(error.position, Some(position), "{sql}");
            assert!(error.message.contains(what), "{sql}: {}", error.message);
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_lexer(sql in "\\PC{0,60}") {
            if let Ok(tokens) = tokens(&sql) {
                // The tokens stand in order, and between them there is nothing but blanks and comments.
                let mut end = 0;
                for token in &tokens {
                    prop_assert!(token.start >= end && token.end >= token.start);
                    prop_assert!(sql.is_char_boundary(token.start));
                    end = token.end;
                }
            }
        }
    }
}
