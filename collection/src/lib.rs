//! holdfast-collection
