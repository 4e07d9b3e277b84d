//! What a command prints: data to stdout, everything else to stderr.

mod progress;
mod table;

pub(crate) use progress::Progress;
pub(crate) use table::Table;

use holdfast_types::Fault;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// How this process prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

/// An error as `--json` shows it.
#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: the value as a JSON document, or its text.
    pub(crate) fn result<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        let text = if self.json {
            serde_json::to_string_pretty(value).unwrap_or_default()
        } else {
            text()
        };
        line_out(&text);
    }

    /// Prints one of many results: the value as one line of JSON, or its text.
    pub(crate) fn item<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        let text = if self.json {
            serde_json::to_string(value).unwrap_or_default()
        } else {
            text()
        };
        line_out(&text);
    }

    /// Says something to a person; machines do not see it.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.json {
            line_err(text.as_ref());
        }
    }

    /// Prints an error with its way out.
    pub(crate) fn error(self, fault: &Fault) {
        line_err(&self.error_text(fault));
    }

    fn error_text(self, fault: &Fault) -> String {
        if self.json {
            let error = ErrorBody {
                code: fault.code.as_str(),
                message: &fault.message,
                hint: fault.hint.as_deref(),
            };
            return serde_json::to_string(&ErrorDocument { error }).unwrap_or_default();
        }
        match &fault.hint {
            Some(hint) => format!("error: {}\nhint: {hint}", fault.message),
            None => format!("error: {}", fault.message),
        }
    }

    /// Whether a moving bar makes sense.
    pub(crate) fn shows_bars(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }
}

/// A reader that went away (`holdfast job list | head`) is no error.
fn line_out(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n'));
}

fn line_err(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::ErrorCode;

    #[test]
    fn errors_say_what_to_do() {
        let fault = Fault::new(ErrorCode::NotFound, "job 7 does not exist").hint("list them");
        assert_eq!(
            Output::new(false).error_text(&fault),
            "error: job 7 does not exist\nhint: list them"
        );
        assert_eq!(
            Output::new(true).error_text(&fault),
            r#"{"error":{"code":"not-found","message":"job 7 does not exist","hint":"list them"}}"#
        );
    }
}
