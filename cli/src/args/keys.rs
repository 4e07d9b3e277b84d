//! Arguments about the keys of encrypted chains.

use clap::{Args, Subcommand};

use super::Unread;

/// What opens an encrypted chain, or shall open a new one.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct KeyArgs {
    /// Encryption: a file whose first line is the passphrase; `-` reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    pub(crate) passphrase_file: Option<String>,
    /// Encryption: ask for the passphrase on the terminal
    #[arg(long)]
    pub(crate) passphrase: bool,
    /// Encryption: the passphrase, from the environment only
    #[arg(
        long = "passphrase-of-environment",
        env = "HOLDFAST_PASSPHRASE",
        hide = true,
        hide_env_values = true
    )]
    pub(crate) environment: Option<Unread>,
    /// Encryption: a key of a key management service (aws:///…, gs:///…, azure-kms:///…, vault://…); may be repeated, and any one opens
    #[arg(long, value_name = "URI")]
    pub(crate) kms: Vec<Unread>,
    /// Encryption: a file with such URIs, one a line, so that their credentials stand in no process list
    #[arg(long, value_name = "FILE")]
    pub(crate) kms_file: Option<String>,
}

/// The same for keys that are new to a chain.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NewKeyArgs {
    /// A file whose first line is a further passphrase; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<String>,
    /// A further key of a key management service; may be repeated
    #[arg(long, value_name = "URI")]
    pub(crate) new_kms: Vec<Unread>,
    /// A file with such URIs, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) new_kms_file: Option<String>,
    /// How a key follows from the new passphrase
    #[arg(long, value_name = "KDF", value_parser = ["argon2id", "pbkdf2-sha256"])]
    pub(crate) new_kdf: Option<String>,
}

/// Which chain's keys, and who looks.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChainArgs {
    /// The collection's URI
    pub(crate) collection: String,
    /// Which chain: LATEST, or a subdirectory as listed
    #[arg(default_value = "LATEST")]
    pub(crate) subdir: String,
    /// Use the collection directly, without a cluster
    #[arg(long)]
    pub(crate) local: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Which keys open a chain; no key is needed to see that
    Show {
        #[command(flatten)]
        chain: ChainArgs,
    },
    /// Have further keys open a chain, by way of one that opens it now
    Add {
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        further: NewKeyArgs,
    },
    /// Have a key open a chain no more, by way of one that opens it now
    Drop {
        #[command(flatten)]
        chain: ChainArgs,
        /// What is dropped: an id as listed by `keys show`; may be repeated
        #[arg(long, value_name = "ID", required = true)]
        id: Vec<String>,
        #[command(flatten)]
        keys: KeyArgs,
    },
}
