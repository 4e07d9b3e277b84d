//! Schedules: how they are asked for, what they amount to, and how people see them. What runs them is
//! [`crate::actors::schedule_clock`].

mod alter;
mod control;
mod create;
pub(crate) mod cron;
mod pace;
mod view;

pub(crate) use alter::alter;
pub(crate) use control::control;
pub(crate) use create::create;
pub(crate) use view::list;
