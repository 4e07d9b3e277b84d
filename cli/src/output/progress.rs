//! A job's progress on stderr: a bar weighted by bytes on a terminal, otherwise a line whenever the state changes.

use holdfast_client::v1::Job;
use holdfast_types::ByteCount;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

use super::Output;
use crate::views::StepView;

/// Parts that the bar is divided into: fine enough for a wide terminal.
const BAR_STEPS: u64 = 10_000;

/// Shows one job.
#[derive(Debug)]
pub(crate) struct Progress {
    output: Output,
    bar: ProgressBar,
    last: String,
}

impl Progress {
    pub(crate) fn new(output: Output) -> Self {
        let target = if output.shows_bars() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(BAR_STEPS), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3}% {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            output,
            bar,
            last: String::new(),
        }
    }

    /// Shows the job as it is now.
    pub(crate) fn show(&mut self, job: &Job) {
        self.bar.set_prefix(format!("{} {}", job.kind, job.id));
        self.bar
            .set_position((job.fraction_completed.clamp(0.0, 1.0) * BAR_STEPS as f64) as u64);
        self.bar.set_message(moving_text(job));
        if self.output.shows_bars() {
            return;
        }
        let state = match step(job) {
            Some(step) => format!("{}, {}", state_text(job), step.phase),
            None => state_text(job),
        };
        if state != self.last {
            self.output
                .note(format!("{} {}: {state}", job.kind, job.id));
            self.last = state;
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What the job is and why nothing moves.
pub(crate) fn state_text(job: &Job) -> String {
    let mut text = job.state.clone();
    let waits = job.waiting.contains(&job.running_status);
    if job.state == "running" && !job.running_status.is_empty() && !waits {
        text = format!("{text}, {}", job.running_status);
    }
    if !job.pause_reason.is_empty() {
        text = format!("{text} ({})", job.pause_reason);
    }
    if let Some(why) = job.waiting.first() {
        let why = why.strip_prefix("waiting for ").unwrap_or(why);
        text = format!("{text}, waiting: {why}");
    }
    text
}

/// The first step that a task tells of, while no rows flow to be counted.
fn step(job: &Job) -> Option<StepView> {
    let mut running = job.members.iter().flat_map(|member| &member.running);
    let step = running.find_map(|task| task.step.clone())?;
    Some(StepView::from(step))
}

fn moving_text(job: &Job) -> String {
    let mut text = format!(
        "{} / {}",
        ByteCount(job.done_weight),
        ByteCount(job.total_weight)
    );
    if job.rate >= 1.0 {
        text = format!("{text}  {}/s", ByteCount(job.rate as u64));
        if job.eta_seconds.is_finite() && (0.0..1e7).contains(&job.eta_seconds) {
            let eta = Duration::from_secs(job.eta_seconds.ceil() as u64);
            text = format!("{text}  ETA {}", indicatif::HumanDuration(eta));
        }
    }
    match step(job) {
        Some(step) => format!("{text}  {}, {}", state_text(job), step.text()),
        None => format!("{text}  {}", state_text(job)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_client::v1;

    #[test]
    fn a_job_that_moves_shows_rate_and_eta_and_one_that_waits_shows_why() {
        let mut job = Job {
            state: "running".into(),
            running_status: "transferring".into(),
            done_weight: 3 << 20,
            total_weight: 12 << 20,
            rate: 1_048_576.0,
            eta_seconds: 8.2,
            ..Job::default()
        };
        assert_eq!(
            moving_text(&job),
            "3.0 MiB / 12.0 MiB  1.0 MiB/s  ETA 9 seconds  running, transferring"
        );
        job.members = vec![v1::JobMember {
            running: vec![v1::RunningTask {
                step: Some(v1::TaskStep {
                    phase: "indexes of database bank".into(),
                    done: 2,
                    total: 3,
                    ..v1::TaskStep::default()
                }),
                ..v1::RunningTask::default()
            }],
            ..v1::JobMember::default()
        }];
        assert!(
            moving_text(&job).ends_with("running, transferring, indexes of database bank: 2 of 3")
        );
        job.members.clear();
        job.rate = 0.0;
        job.waiting = vec!["no live worker in locality region=eu".into()];
        assert_eq!(
            moving_text(&job),
            "3.0 MiB / 12.0 MiB  running, transferring, waiting: no live worker in locality region=eu"
        );
    }
}
