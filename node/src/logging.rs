//! Logs: to stderr, as lines for people or as JSON for machines. `HOLDFAST_LOG` takes a filter (`info`, `holdfast_raft=debug`), and so
//! does `RUST_LOG` where `HOLDFAST_LOG` is not set.
//!
//! openraft is silent unless the filter names it: it reports every vote that is refused and every peer that does not answer as a warning or an
//! error, which is what an ordinary election looks like. What a failure of its own means for the node, the node says
//! itself. `RUST_LOG=info,openraft=warn` brings its lines back.

use tracing_subscriber::EnvFilter;

/// What the filter must name for openraft to be heard.
const RAFT_ENGINE: &str = "openraft";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for this process. A second call does nothing.
pub fn init_logging(format: LogFormat, default_filter: &str) {
    let asked = ["HOLDFAST_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(asked.as_deref(), default_filter))
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    // An error means that logging was started before, by a test or an embedding program: theirs stays.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// The filter that was asked for, or the default if there is none or it cannot be read.
fn filter(asked: Option<&str>, default_filter: &str) -> EnvFilter {
    let asked = asked.and_then(|text| EnvFilter::try_new(quieted(text)).ok());
    asked.unwrap_or_else(|| EnvFilter::new(quieted(default_filter)))
}

/// The filter, without openraft unless it speaks of it.
fn quieted(filter: &str) -> String {
    if filter.contains(RAFT_ENGINE) {
        filter.to_owned()
    } else {
        format!("{filter},{RAFT_ENGINE}=off")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged under a filter by an election and by a node of ours.
    fn logged(asked: Option<&str>) -> String {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(asked, "info"))
            .with_writer(move || to.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "openraft::core::raft_core", "vote refused");
            tracing::warn!(target: "openraft::network", "peer does not answer");
            tracing::warn!(target: "holdfast_raft::start", "the disk is nearly full");
            tracing::debug!(target: "holdfast_raft::start", "detail");
        });
        let bytes = lines.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn an_election_is_quiet_unless_it_is_asked_for() {
        for asked in [None, Some("info"), Some("not==a filter")] {
            let text = logged(asked);
            assert!(text.contains("nearly full"), "{asked:?}: {text}");
            assert!(!text.contains("vote refused"), "{asked:?}: {text}");
            assert!(!text.contains("does not answer"), "{asked:?}: {text}");
        }
        let text = logged(Some("info,openraft=warn"));
        for line in ["vote refused", "does not answer", "nearly full"] {
            assert!(text.contains(line), "{text}");
        }
        let text = logged(Some("holdfast_raft=debug"));
        assert!(text.contains("detail"), "{text}");
    }
}
