//! Commit latency and throughput of one node on a real disk: `cargo bench -p holdfast-raft`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use hdrhistogram::Histogram;
use holdfast_env::Env;
use holdfast_raft::{LogPosition, Node, RaftConfig, StateMachine};
use holdfast_types::{ClusterId, Digest, Fault, NodeId};
use std::io;
use std::time::{Duration, Instant};

/// How long each line is measured.
const DURATION: Duration = Duration::from_secs(4);

/// Bytes of one command.
const COMMAND_SIZE: usize = 200;

/// Counts commands.
#[derive(Debug, Clone, Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = Vec<u8>;
    type Outcome = ();

    fn empty() -> Self {
        Self::default()
    }
    fn apply(&mut self, _: LogPosition, _: &Vec<u8>) {
        self.0 += 1;
    }
    fn advance(&mut self, _: LogPosition) {}
    fn encode_command(command: &Vec<u8>) -> Vec<u8> {
        command.clone()
    }
    fn decode_command(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(bytes.to_vec())
    }
    fn encode_outcome((): &()) -> Vec<u8> {
        Vec::new()
    }
    fn decode_outcome(_: &[u8]) -> Result<(), Fault> {
        Ok(())
    }
    fn write_snapshot(&self, output: &mut Vec<u8>) -> io::Result<()> {
        output.extend_from_slice(&self.0.to_le_bytes());
        Ok(())
    }
    fn read_snapshot(bytes: &[u8]) -> Result<Self, Fault> {
        let count = bytes.first_chunk().copied().unwrap_or_default();
        Ok(Self(u64::from_le_bytes(count)))
    }
    fn digest(&self) -> Digest {
        Digest::of(&self.0.to_le_bytes())
    }
}

/// `writers` tasks propose `batch` commands at a time.
async fn measure(node: &Node<Counter>, what: &str, writers: usize, batch: usize) {
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move {
                let mut histogram = Histogram::<u64>::new(3).expect("three digits");
                let commands = vec![vec![7; COMMAND_SIZE]; batch];
                while started.elapsed() < DURATION {
                    let sent = Instant::now();
                    for outcome in node.propose_batch(&commands).await {
                        outcome.expect("is committed");
                    }
                    let micros = sent.elapsed().as_micros() as u64;
                    histogram.record(micros).expect("it resizes");
                }
                histogram
            })
        })
        .collect();
    let mut all = Histogram::<u64>::new(3).expect("three digits");
    for task in tasks {
        all.add(task.await.expect("proposes")).expect("same range");
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{what:<34} p50 {:>7.2} ms   p99 {:>7.2} ms   {:>9.0} entries/s",
        all.value_at_quantile(0.5) as f64 / 1000.0,
        all.value_at_quantile(0.99) as f64 / 1000.0,
        (all.len() * batch as u64) as f64 / seconds,
    );
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("text");
    let config = RaftConfig {
        disk_reserve: 0,
        max_in_flight: 65_536,
        ..RaftConfig::new(NodeId(1), path, "127.0.0.1:1")
    };
    let node = Node::<Counter>::start(config, Env::system())
        .await
        .expect("starts");
    let members = [(NodeId(1), "127.0.0.1:1".to_owned())].into();
    node.initialize(ClusterId([1; 16]), members)
        .await
        .expect("is founded");
    let mut leadership = node.leadership();
    leadership.wait_for(|now| now.is_self).await.expect("leads");
    println!("one node, commands of {COMMAND_SIZE} bytes, fsync before every acknowledgement");
    measure(&node, "1 writer, 1 command", 1, 1).await;
    measure(&node, "64 writers, 1 command", 64, 1).await;
    measure(&node, "1 writer, batches of 64", 1, 64).await;
    measure(&node, "8 writers, batches of 64", 8, 64).await;
    measure(&node, "8 writers, batches of 1000", 8, 1000).await;
    node.shutdown().await;
}
