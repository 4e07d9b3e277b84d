//! The suite that every store is run through.
