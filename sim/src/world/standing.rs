//! How everything stands when a run fails.

use super::World;
use super::coordinators::Watched;

impl World<'_> {
    /// How each host stands, for the report of a failure.
    pub(super) fn standing(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "stage {:?} since {:?}, {}",
            self.progress.stage(),
            self.since,
            self.progress.wait()
        )];
        for (name, host) in &self.hosts {
            let atlas = self.atlas.as_ref();
            let state = match atlas {
                Some(atlas) if atlas.is_down(name) => "down",
                Some(atlas) if atlas.is_held(name) => "held back",
                _ => "up",
            };
            lines.push(format!("{name:<10} {state}, life {}", host.life()));
        }
        for node in self.coordinators.iter().filter_map(Watched::look) {
            let jobs: Vec<_> = node
                .ledger
                .jobs()
                .filter(|job| !job.state().is_terminal())
                .map(|job| format!("{} {}", job.id(), job.state()))
                .collect();
            lines.push(format!(
                "{:<10} applied {:?}, {}, jobs: {}",
                node.host,
                node.ledger.applied(),
                node.leads
                    .map_or("follows".to_owned(), |term| format!("leads term {term}")),
                jobs.join(", ")
            ));
        }
        lines
    }
}
