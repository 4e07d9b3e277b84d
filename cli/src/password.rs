//! The password of a user, from where it was said to be.

use holdfast_types::{ErrorCode, Fault};
use std::io::{BufRead, stdin};

use crate::args::read_file;
use crate::context::Context;

/// Reads a new password: from the first line of a file, from standard input, or from the terminal, where it is asked for twice and not shown.
pub(crate) async fn read(context: &Context, file: Option<&str>) -> Result<String, Fault> {
    let text = match file {
        None => return ask(),
        Some("-") => {
            let mut line = String::new();
            stdin().lock().read_line(&mut line).map_err(|error| {
                invalid(format!(
                    "the password cannot be read from standard input: {error}"
                ))
            })?;
            line
        }
        Some(file) => {
            let bytes = read_file(&context.env, file.to_owned()).await?;
            String::from_utf8(bytes)
                .map_err(|_| invalid(format!("the file {file} holds no text")))?
        }
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(invalid(format!(
            "there is no password in the first line of {}",
            file.unwrap_or_default()
        ))),
    }
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::InvalidArgument, message)
}

fn ask() -> Result<String, Fault> {
    let prompt = |text: &str| {
        rpassword::prompt_password(text).map_err(|error| {
            invalid(format!("the password cannot be asked for: {error}"))
                .hint("without a terminal, give it with --password-file, or with --password-file - on standard input")
        })
    };
    let password = prompt("Password: ")?;
    if password.is_empty() {
        return Err(invalid("the password is empty"));
    }
    match prompt("Password, again: ")? == password {
        true => Ok(password),
        false => Err(invalid("the two passwords differ")),
    }
}
