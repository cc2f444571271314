//! Trust, asked in sentences.

mod cipher;
