//! A store against a naive model, against faults, and against its cost.

mod cost;
mod faults;
mod model;
mod properties;
