//! holdfast-format
