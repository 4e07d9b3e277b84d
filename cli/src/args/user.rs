//! Arguments about users of the SQL port.

use clap::{Args, Subcommand};

/// Whose password, and where it is.
#[derive(Debug, Clone, Args)]
pub(crate) struct UserArgs {
    /// The user's name, as clients write it: lower case and upper case differ
    pub(crate) name: String,
    /// A file whose first line is the password; `-` reads it from standard input. Asked for on the terminal if left out
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user, who can then run SQL from any machine
    Add(UserArgs),
    /// Give a user another password; sessions that are open go on
    Password(UserArgs),
    /// Forget a user; sessions that are open go on
    Drop {
        /// The user's name
        name: String,
    },
    /// All users
    List,
}
