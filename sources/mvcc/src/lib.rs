//! holdfast-mvcc
