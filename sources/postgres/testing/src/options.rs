//! How a server is set up.

use crate::binaries::Version;

/// How a server is set up. The defaults are those of most tests: Debian's version, trust, `wal_level = logical`, `fsync` off.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which version.
    pub version: Version,
    /// Settings beyond the defaults, as in `postgresql.conf`; the last one of a name counts.
    pub settings: Vec<(String, String)>,
    /// Lines of `pg_hba.conf`; `None` trusts everybody.
    pub hba: Option<String>,
    /// Further arguments of `initdb`, such as `--encoding=LATIN1`.
    pub initdb: Vec<String>,
    /// Files put into the data directory before the start, by name: certificates and their like.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Default for Options {
    fn default() -> Self {
        Self::of(Version::V15)
    }
}

impl Options {
    /// The defaults with another version.
    #[must_use]
    pub fn of(version: Version) -> Self {
        Self {
            version,
            settings: Vec::new(),
            hba: None,
            initdb: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the lines of `pg_hba.conf`.
    #[must_use]
    pub fn hba(mut self, lines: &str) -> Self {
        self.hba = Some(lines.to_owned());
        self
    }

    /// Adds an argument of `initdb`.
    #[must_use]
    pub fn initdb(mut self, argument: &str) -> Self {
        self.initdb.push(argument.to_owned());
        self
    }

    /// Adds a file of the data directory, readable by the server alone.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// The configuration file.
    pub(crate) fn configuration(&self, port: u16, directory: &str) -> String {
        let defaults = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("unix_socket_directories", directory.to_owned()),
            ("wal_level", "logical".to_owned()),
            ("max_replication_slots", "60".to_owned()),
            ("max_wal_senders", "20".to_owned()),
            ("max_connections", "200".to_owned()),
            ("max_prepared_transactions", "10".to_owned()),
            ("fsync", "off".to_owned()),
            ("full_page_writes", "off".to_owned()),
            ("shared_buffers", "64MB".to_owned()),
            ("max_wal_size", "2GB".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("lc_messages", "C".to_owned()),
        ];
        let given = self.settings.iter().cloned();
        defaults
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain(given)
            .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
            .collect()
    }
}
