//! Who may suffer what.

/// The hosts, by what they may suffer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    /// Coordinators.
    pub(crate) coordinators: Vec<String>,
    /// Workers.
    pub(crate) workers: Vec<String>,
    /// Members of sources.
    pub(crate) members: Vec<String>,
    /// Everybody whose links may be cut, clients included.
    pub(crate) all: Vec<String>,
    /// Everybody in a locality, by locality.
    pub(crate) regions: Vec<Vec<String>>,
}
