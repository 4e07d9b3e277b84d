//! What is printed.

use holdfast_postgres::pages::PART_BYTES;
use holdfast_types::{ByteCount, Fault};
use serde::Serialize;

use super::data::STREAMS;
use super::figures::{Line, Sample, Series};
use super::incremental::{Chains, GROWTH};
use super::{Bench, processor};

/// How much a figure may grow with the data that should not grow at all: what two medians differ by anyway.
const FLAT: f64 = 0.1;

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    server_version: String,
    /// Whether the server is on this machine, so that its processor time is known.
    server_is_here: bool,
    cores: usize,
    load_before: Option<f64>,
}

impl Machine {
    pub(super) async fn look(bench: &Bench<'_>) -> Result<Self, Fault> {
        let version = "SHOW server_version".to_owned();
        Ok(Self {
            server_version: bench.server.ask(None, &[version]).await?,
            server_is_here: bench.meter.postmaster.is_some(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load_before: processor::load(),
        })
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) machine: Machine,
    pub(super) rounds: u32,
    /// Of the rows in COPY's binary format.
    pub(super) data_bytes: u64,
    pub(super) exports: Vec<Series>,
    pub(super) imports: Vec<Series>,
    pub(super) loads: Vec<Series>,
    pub(super) chains: Chains,
    /// Why pgBackRest was not compared.
    pub(super) pgbackrest: Option<String>,
}

/// Ours against something, and the most that it should be.
#[derive(Debug, Serialize)]
struct Ratio {
    what: &'static str,
    ratio: Option<f64>,
    limit: Option<f64>,
    is_met: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(super) struct PostgresView {
    machine: Machine,
    rounds: u32,
    data_bytes: u64,
    pgbackrest: Option<String>,
    /// Rows that were changed before each incremental.
    changed_rows: u64,
    figures: Vec<Line>,
    ratios: Vec<Ratio>,
}

fn ratio(what: &'static str, limit: Option<f64>, ratio: Option<f64>) -> Ratio {
    let is_met = limit.and_then(|limit| ratio.map(|ratio| ratio <= limit));
    Ratio {
        what,
        ratio,
        limit,
        is_met,
    }
}

/// Puts it together.
pub(super) fn view(measured: Measured) -> PostgresView {
    let mut ratios = of_exports(&measured.exports);
    ratios.extend(of_imports(&measured.imports, &measured.loads));
    ratios.extend(of_chains(&measured.chains));
    ratios.extend(of_memory(
        &measured.chains,
        &measured.exports,
        &measured.imports,
    ));
    let series = [&measured.exports, &measured.imports, &measured.loads];
    let mut figures: Vec<Line> = series.into_iter().flatten().map(Series::line).collect();
    let incrementals = &measured.chains.incrementals;
    figures.extend(incrementals.iter().flat_map(|one| one.lines()));
    PostgresView {
        machine: measured.machine,
        rounds: measured.rounds,
        data_bytes: measured.data_bytes,
        pgbackrest: measured.pgbackrest,
        changed_rows: incrementals
            .iter()
            .map(|one| one.changed_rows)
            .max()
            .unwrap_or(0),
        figures,
        ratios,
    }
}

fn of_exports(exports: &[Series]) -> Vec<Ratio> {
    let [copy, ours, raw, dump, rest @ ..] = exports else {
        return Vec::new();
    };
    let wall = |other: &Series| ours.against(other, Sample::wall);
    let stored = |other: &Series| ours.against(other, Sample::stored);
    let mut ratios = vec![
        ratio("backup against COPY, wall", Some(1.4), wall(copy)),
        ratio(
            "backup against COPY, server CPU",
            Some(1.05),
            ours.against(copy, Sample::server),
        ),
        ratio("backup against pg_dump -Z0, wall", None, wall(raw)),
        ratio("backup against pg_dump -Z1, wall", Some(0.65), wall(dump)),
        ratio("stored against pg_dump -Z1", Some(0.6), stored(dump)),
    ];
    if let Some(peer) = rest.first() {
        ratios.push(ratio(
            "backup against pgBackRest, wall",
            Some(1.0),
            wall(peer),
        ));
        ratios.push(ratio("stored against pgBackRest", Some(0.5), stored(peer)));
    }
    ratios
}

fn of_imports(whole: &[Series], rows: &[Series]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    if let [ours, theirs] = whole {
        ratios.push(ratio(
            "restore against pg_restore, wall",
            Some(0.8),
            ours.against(theirs, Sample::wall),
        ));
        ratios.push(ratio(
            "restore against pg_restore, server CPU",
            None,
            ours.against(theirs, Sample::server),
        ));
    }
    if let [ours, raw] = rows {
        ratios.push(ratio(
            "restore of rows against COPY FROM, wall",
            Some(1.1),
            ours.against(raw, Sample::wall),
        ));
        ratios.push(ratio(
            "restore of rows against COPY FROM, server CPU",
            None,
            ours.against(raw, Sample::server),
        ));
    }
    ratios
}

fn of_chains(chains: &Chains) -> Vec<Ratio> {
    let names = [
        (
            "incremental of nothing, seconds' slope in the data",
            "incremental of nothing, bytes' slope",
        ),
        (
            "incremental, scattered, seconds' slope in the data",
            "incremental, scattered, bytes' slope",
        ),
        (
            "incremental, clustered, seconds' slope in the data",
            "incremental, clustered, bytes' slope",
        ),
    ];
    let pairs = names.into_iter().zip(&chains.incrementals);
    let slopes = pairs.flat_map(|((seconds, bytes), incremental)| {
        [
            ratio(seconds, Some(FLAT), incremental.slope(Sample::wall)),
            ratio(bytes, Some(FLAT), incremental.slope(Sample::stored)),
        ]
    });
    slopes.collect()
}

fn of_memory(chains: &Chains, exports: &[Series], imports: &[Series]) -> Vec<Ratio> {
    let parts = (u64::from(STREAMS) * PART_BYTES) as f64;
    let peak = |series: Option<&Series>| {
        let peak = series?.median(|sample| sample.peak.map(|bytes| bytes as f64))?;
        Some(peak / parts)
    };
    let growth = |small: &Sample, large: &Sample| Some(large.peak? as f64 / small.peak? as f64);
    vec![
        ratio(
            "backup's memory against streams × part",
            Some(3.0),
            peak(exports.get(1)),
        ),
        ratio(
            "restore's memory against streams × part",
            Some(3.0),
            peak(imports.first()),
        ),
        ratio(
            "backup's memory against that of a quarter of the data",
            None,
            growth(&chains.small_full, &chains.large_full),
        ),
    ]
}

impl PostgresView {
    pub(super) fn text(&self) -> String {
        let machine = &self.machine;
        let mut lines = vec![format!(
            "PostgreSQL {}, {} of rows as binary COPY, {} rounds, {} cores, load {} at the beginning",
            machine.server_version,
            ByteCount(self.data_bytes),
            self.rounds,
            machine.cores,
            number(machine.load_before, 1),
        )];
        if let Some(why) = &self.pgbackrest {
            lines.push(format!("pgBackRest: {why}"));
        }
        lines.push(format!(
            "incrementals after {} changed rows, of {} and of 1/{GROWTH} of that",
            self.changed_rows,
            ByteCount(self.data_bytes)
        ));
        lines.push(String::new());
        lines.push(row(
            "",
            &["s", "MB/s", "client CPU", "server CPU", "stored", "memory"],
        ));
        lines.extend(self.figures.iter().map(|line| self.figure(line)));
        lines.push(String::new());
        lines.extend(self.ratios.iter().map(|ratio| {
            let held = match (ratio.limit, ratio.is_met) {
                (Some(limit), Some(true)) => format!("met: at most {limit}"),
                (Some(limit), Some(false)) => format!("NOT met: at most {limit}"),
                _ => String::new(),
            };
            let value = number(ratio.ratio, 2);
            format!("{:<66}{value:>8}  {held}", ratio.what)
                .trim_end()
                .to_owned()
        }));
        lines.join("\n")
    }

    fn figure(&self, line: &Line) -> String {
        let is_whole = !line.name.starts_with("incremental");
        let rate = is_whole.then(|| self.data_bytes as f64 / line.seconds / 1e6);
        let bytes = |bytes: Option<u64>| {
            bytes.map_or_else(|| "-".to_owned(), |bytes| ByteCount(bytes).to_string())
        };
        row(
            &line.name,
            &[
                &format!("{:.2}", line.seconds),
                &rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")),
                &number(line.client_cpu_seconds, 2),
                &number(line.server_cpu_seconds, 2),
                &bytes(line.stored_bytes),
                &bytes(line.peak_bytes),
            ],
        )
    }
}

fn row(name: &str, cells: &[&str]) -> String {
    let cells: String = cells.iter().map(|cell| format!("{cell:>12}")).collect();
    format!("{name:<66}{cells}")
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_met_or_not_or_unknown() {
        assert_eq!(ratio("x", Some(1.4), Some(1.4)).is_met, Some(true));
        assert_eq!(ratio("x", Some(1.4), Some(1.5)).is_met, Some(false));
        assert_eq!(ratio("x", Some(1.4), None).is_met, None);
        assert_eq!(ratio("x", None, Some(9.0)).is_met, None);
    }

    #[test]
    fn what_is_unknown_is_said_to_be() {
        let series = |name: &str, seconds| Series {
            name: name.to_owned(),
            samples: vec![Sample {
                seconds,
                stored: Some(100),
                ..Sample::default()
            }],
        };
        let view = view(Measured {
            machine: Machine {
                server_version: "15.1".to_owned(),
                server_is_here: false,
                cores: 2,
                load_before: None,
            },
            rounds: 1,
            data_bytes: 1 << 20,
            exports: vec![
                series("a", 1.0),
                series("b", 1.3),
                series("c", 1.0),
                series("d", 3.0),
            ],
            imports: vec![series("e", 1.0), series("f", 1.0)],
            loads: vec![series("g", 1.0), series("h", 1.0)],
            chains: Chains {
                small_full: Sample::default(),
                large_full: Sample::default(),
                incrementals: Vec::new(),
            },
            pgbackrest: Some("not installed".to_owned()),
        });
        let text = view.text();
        let line = |what: &str| {
            text.lines()
                .find(|line| line.starts_with(what))
                .expect(what)
        };
        assert!(line("backup against COPY, wall").contains("1.30  met: at most 1.4"));
        assert!(line("stored against pg_dump -Z1").contains("1.00  NOT met: at most 0.6"));
        assert!(line("backup against COPY, server CPU").ends_with("n/a"));
        assert!(line("pgBackRest").contains("not installed"));
        assert!(!text.contains("backup against pgBackRest"));
    }
}
