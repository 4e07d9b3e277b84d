//! holdfast-coordinator
