//! What the demo prints.

use holdfast_client::v1;
use holdfast_types::ByteCount;
use serde::Serialize;
use std::time::Duration;

use crate::context::Context;

/// The story so far.
#[derive(Debug)]
pub(super) struct Report {
    context: Context,
    started: Duration,
    jobs: u64,
    bytes: u64,
    redone: u64,
}

#[derive(Serialize)]
struct StepView<'a> {
    at_seconds: f64,
    step: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct EndView {
    demo: &'static str,
    jobs: u64,
    bytes: u64,
    bytes_redone: u64,
    seconds: f64,
}

impl Report {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            started: context.env.clock.monotonic(),
            jobs: 0,
            bytes: 0,
            redone: 0,
        }
    }

    fn seconds(&self) -> f64 {
        (self.context.env.clock.monotonic() - self.started).as_secs_f64()
    }

    /// Tells of one thing that happened.
    pub(super) fn step(&self, step: &str, text: impl AsRef<str>) {
        let text = text.as_ref();
        let at_seconds = self.seconds();
        let view = StepView {
            at_seconds,
            step,
            text,
        };
        self.context
            .output
            .item(&view, || format!("{at_seconds:5.1} s  {step:<11}  {text}"));
    }

    /// Counts a job that succeeded.
    pub(super) fn count(&mut self, job: &v1::Job) {
        self.jobs += 1;
        self.bytes += job.bytes_read;
        self.redone += job.bytes_redone;
    }

    /// The last line.
    pub(super) fn end(&self) {
        let view = EndView {
            demo: "ok",
            jobs: self.jobs,
            bytes: self.bytes,
            bytes_redone: self.redone,
            seconds: self.seconds(),
        };
        self.context.output.item(&view, || {
            format!(
                "demo: ok, {} jobs, {} read, {} redone, {:.1} s",
                view.jobs,
                ByteCount(view.bytes),
                ByteCount(view.bytes_redone),
                view.seconds
            )
        });
    }
}
