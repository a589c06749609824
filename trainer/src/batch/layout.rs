//! Layouts: index tables that an implementation of the model's operations needs beside the packed batch.

use tch::{TchError, Tensor};

use super::blocks::{BlockColumns, BlockTables};
use super::packed::{Batch, Inputs};

/// Rows of a padded view are a multiple of this wide: attention kernels on GPUs are faster on aligned rows.
const WIDTH_MULTIPLE: usize = 8;

/// Layout that an implementation of the operations needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutKind {
    /// The packed batch itself; operations read the tables of the host.
    Packed,
    /// Rows of equal width, for operators that need rectangular tensors.
    Padded,
    /// The packed batch with tables for kernels on a GPU, see [`super::blocks`].
    Blocks,
}

/// Layout of a batch on the device.
#[derive(Debug)]
pub enum Layout {
    /// See [`LayoutKind::Packed`].
    Packed,
    /// See [`LayoutKind::Padded`].
    Padded(PaddedView),
    /// See [`LayoutKind::Blocks`].
    Blocks(BlockTables),
}

/// Index tensors that turn a batch's tokens into rows of equal width and back.
#[derive(Debug)]
pub struct PaddedView {
    /// Number of rows.
    pub rows: i64,
    /// Number of tokens per row: that of the longest row, rounded up to a multiple of 8.
    pub width: i64,
    /// Token at each place `[rows · width]`, an index into `[T]`; the row's first token at places of padding.
    pub pad_index: Tensor,
    /// Place of each token `[T]`, an index into `[rows · width]`.
    pub unpad_index: Tensor,
    /// Piece numbers `[rows, width]`: 0 for context and padding, 1 for the start of piece, from 2 on for the pieces.
    pub piece: Tensor,
    /// Number of context tokens per row `[rows]`.
    pub context: Tensor,
}

impl Layout {
    /// Handles to the same tensors, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        match self {
            Self::Packed => Self::Packed,
            Self::Blocks(tables) => Self::Blocks(tables.share()),
            Self::Padded(PaddedView { rows, width, pad_index, unpad_index, piece, context }) => Self::Padded(PaddedView {
                rows: *rows,
                width: *width,
                pad_index: pad_index.shallow_clone(),
                unpad_index: unpad_index.shallow_clone(),
                piece: piece.shallow_clone(),
                context: context.shallow_clone(),
            }),
        }
    }
}

/// Columns of a layout on the host, to be copied to the device with the batch.
#[derive(Debug)]
pub(super) enum LayoutColumns {
    Packed,
    Padded { rows: usize, width: usize, columns: [Vec<i64>; 4] },
    Blocks(BlockColumns),
}

impl LayoutColumns {
    pub(super) fn new(kind: LayoutKind, batch: &Batch) -> Self {
        match kind {
            LayoutKind::Packed => Self::Packed,
            LayoutKind::Padded => Self::padded(&batch.inputs),
            LayoutKind::Blocks => Self::Blocks(BlockColumns::new(batch)),
        }
    }

    fn padded(inputs: &Inputs) -> Self {
        let (rows, width) = (inputs.rows.len(), inputs.max_row().next_multiple_of(WIDTH_MULTIPLE));
        let mut pad_index = Vec::with_capacity(rows * width);
        let mut unpad_index = Vec::with_capacity(inputs.tokens());
        let mut piece = Vec::with_capacity(rows * width);
        for row in &inputs.rows {
            let (start, end) = (row.start as i64, (row.start + row.length) as i64);
            let first_place = pad_index.len();
            unpad_index.extend((first_place as i64..).take(row.length));
            pad_index.extend(start..end);
            pad_index.resize(first_place + width, start);
            piece.resize(first_place + row.context, 0);
            // The first token of a piece is the one whose piece starts at itself: the start of piece, then each choice's first.
            let mut number = 0;
            let starts = &inputs.piece_start[row.start..row.start + row.length];
            for (index, &piece_start) in starts.iter().enumerate().skip(row.context) {
                number += i64::from(piece_start as usize == index);
                piece.push(number);
            }
            piece.resize(first_place + width, 0);
        }
        let context = inputs.rows.iter().map(|row| row.context as i64).collect();
        Self::Padded { rows, width, columns: [pad_index, unpad_index, piece, context] }
    }

    pub(super) fn columns(&self) -> &[Vec<i64>] {
        match self {
            Self::Packed => &[],
            Self::Padded { columns, .. } => columns,
            Self::Blocks(columns) => columns.all(),
        }
    }

    /// Makes the layout from its columns on the device, which `next` returns one after the other.
    pub(super) fn on_device(&self, mut next: impl FnMut(&[i64]) -> Result<Tensor, TchError>) -> Result<Layout, TchError> {
        let (rows, width, [pad_index, unpad_index, piece, context]) = match self {
            Self::Packed => return Ok(Layout::Packed),
            Self::Blocks(columns) => return Ok(Layout::Blocks(columns.on_device(next)?)),
            Self::Padded { rows, width, columns } => (rows, width, columns),
        };
        let (rows, width) = (*rows as i64, *width as i64);
        Ok(Layout::Padded(PaddedView {
            rows,
            width,
            pad_index: next(pad_index)?,
            unpad_index: next(unpad_index)?,
            piece: next(piece)?.f_view([rows, width])?,
            context: next(context)?,
        }))
    }
}
