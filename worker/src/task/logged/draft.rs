//! An object while it is written: it is packed off the event loop, while the source reads on.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use holdfast_env::Env;
use holdfast_types::Fault;
use std::task::Poll;

use super::misused;
use crate::bounds::LOGGED_OBJECT_MOST;

/// What is written of an object so far.
struct Contents<W> {
    writer: W,
    chunks: Vec<Bytes>,
    stored: u64,
}

impl<W> Contents<W> {
    fn take(&mut self, chunk: Bytes) -> Result<(), Fault> {
        self.stored = self.stored.saturating_add(chunk.len() as u64);
        if self.stored > LOGGED_OBJECT_MOST {
            return Err(misused(
                "does not end an object that is larger than any part",
            ));
        }
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
        Ok(())
    }
}

enum State<W> {
    Ready(Contents<W>),
    Packing(BoxFuture<'static, Result<Contents<W>, Fault>>),
    /// A call was given up, or failed.
    Lost,
}

/// See the module. One piece of work is under way at most, and the next one waits for it.
pub(super) struct Draft<W> {
    env: Env,
    state: State<W>,
}

impl<W: Send + 'static> Draft<W> {
    pub(super) fn new(env: &Env, writer: W) -> Self {
        let contents = Contents {
            writer,
            chunks: Vec::new(),
            stored: 0,
        };
        Self {
            env: env.clone(),
            state: State::Ready(contents),
        }
    }

    async fn contents(&mut self) -> Result<Contents<W>, Fault> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Ready(contents) => Ok(contents),
            State::Packing(packing) => packing.await,
            State::Lost => Err(misused("goes on with an object that is lost")),
        }
    }

    /// Begins a piece of work that gives finished bytes, when the one before has ended. How it ends shows in the next call.
    pub(super) async fn begin(
        &mut self,
        work: impl FnOnce(&mut W) -> Result<Bytes, Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let mut contents = self.contents().await?;
        let env = self.env.clone();
        let packing = async move {
            let work = move || {
                let chunk = work(&mut contents.writer)?;
                contents.take(chunk)?;
                Ok(contents)
            };
            env.blocking(work).await
        };
        let mut packing = packing.boxed();
        // It is under way once it was polled.
        self.state = match futures::poll!(&mut packing) {
            Poll::Ready(contents) => State::Ready(contents?),
            Poll::Pending => State::Packing(packing),
        };
        Ok(())
    }

    /// The bytes of the object, and what `finish` makes of its writer along with the last of them; `None` if `finish` says so.
    pub(super) async fn finish<S: Send + 'static>(
        mut self,
        finish: impl FnOnce(W) -> Result<Option<(Bytes, S)>, Fault> + Send + 'static,
    ) -> Result<Option<(Vec<Bytes>, S)>, Fault> {
        let mut contents = self.contents().await?;
        let work = move || {
            let finished = finish(contents.writer)?;
            Ok(finished.map(|(chunk, summary)| {
                contents.chunks.push(chunk);
                (contents.chunks, summary)
            }))
        };
        self.env.blocking(work).await
    }
}
