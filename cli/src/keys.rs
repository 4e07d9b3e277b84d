//! From what a user gave on the command line to the keys of a request.

use holdfast_client::v1;
use holdfast_types::{ErrorCode, Fault};
use std::io::{BufRead, stdin};

use crate::args::{KeyArgs, NewKeyArgs, Unread};
use crate::context::Context;

/// The longest file with a passphrase or with URIs.
const MAX_FILE: usize = 1 << 20;

/// The keys that a command was given; `None` if there are none. `is_new` says that a passphrase is one that nothing was encrypted with yet: typed, it is
/// asked for twice.
pub(crate) async fn given(
    context: &Context,
    arguments: &KeyArgs,
    kdf: Option<&str>,
    is_new: bool,
) -> Result<Option<v1::EncryptionKeys>, Fault> {
    let passphrase = match (&arguments.passphrase_file, arguments.passphrase) {
        (Some(file), _) => Some(read_passphrase(context, file).await?),
        (None, true) => Some(ask(is_new)?),
        (None, false) => arguments
            .environment
            .as_ref()
            .map(|text| text.expose().to_owned()),
    };
    let kms = read_uris(context, &arguments.kms, arguments.kms_file.as_deref()).await?;
    Ok(keys(passphrase, kms, kdf))
}

/// The keys that a command adds.
pub(crate) async fn further(
    context: &Context,
    arguments: &NewKeyArgs,
) -> Result<Option<v1::EncryptionKeys>, Fault> {
    let passphrase = match &arguments.new_passphrase_file {
        Some(file) => Some(read_passphrase(context, file).await?),
        None => None,
    };
    let file = arguments.new_kms_file.as_deref();
    let kms = read_uris(context, &arguments.new_kms, file).await?;
    Ok(keys(passphrase, kms, arguments.new_kdf.as_deref()))
}

fn keys(
    passphrase: Option<String>,
    kms: Vec<String>,
    kdf: Option<&str>,
) -> Option<v1::EncryptionKeys> {
    let passphrase = passphrase.filter(|text| !text.is_empty());
    if passphrase.is_none() && kms.is_empty() && kdf.is_none() {
        return None;
    }
    Some(v1::EncryptionKeys {
        passphrase: passphrase.unwrap_or_default(),
        kms,
        kdf: kdf.unwrap_or_default().to_owned(),
    })
}

/// The first line of a file, without its end. An empty one is a mistake: nothing would be encrypted.
async fn read_passphrase(context: &Context, file: &str) -> Result<String, Fault> {
    let text = match file {
        "-" => {
            let mut line = String::new();
            stdin().lock().read_line(&mut line).map_err(|error| {
                Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("the passphrase cannot be read from standard input: {error}"),
                )
            })?;
            line
        }
        _ => read_file(context, file).await?,
    };
    let line = text.lines().next().unwrap_or_default();
    match line.is_empty() {
        false => Ok(line.to_owned()),
        true => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("there is no passphrase in the first line of {file}"),
        )),
    }
}

async fn read_file(context: &Context, file: &str) -> Result<String, Fault> {
    let (disk, path) = (std::sync::Arc::clone(&context.env.disk), file.to_owned());
    let failed =
        |why: String| Fault::new(ErrorCode::NotFound, format!("cannot read {file}: {why}"));
    let bytes = context
        .env
        .blocking(move || disk.read(&path))
        .await
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() > MAX_FILE {
        return Err(failed("it is too long".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))
}

async fn read_uris(
    context: &Context,
    given: &[Unread],
    file: Option<&str>,
) -> Result<Vec<String>, Fault> {
    let mut uris: Vec<String> = given.iter().map(|uri| uri.expose().to_owned()).collect();
    if let Some(file) = file {
        let text = read_file(context, file).await?;
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        uris.extend(lines.map(str::to_owned));
    }
    Ok(uris)
}

/// Asks on the terminal, where it is not shown.
fn ask(is_new: bool) -> Result<String, Fault> {
    let prompt = |text: &str| {
        rpassword::prompt_password(text).map_err(|error| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("the passphrase cannot be asked for: {error}"),
            )
            .hint("without a terminal, give it with --passphrase-file or in HOLDFAST_PASSPHRASE")
        })
    };
    let passphrase = prompt("Passphrase: ")?;
    if passphrase.is_empty() {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "the passphrase is empty",
        ));
    }
    if is_new && prompt("Passphrase, again: ")? != passphrase {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "the two passphrases differ",
        ));
    }
    Ok(passphrase)
}
