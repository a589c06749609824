//! A batch as tensors on the device that computes.

use std::sync::Arc;

use tch::{Device, TchError, Tensor};

use super::packed::Batch;
use super::transfer::{Direct, Transfer};

/// Rows of a padded view are a multiple of this wide: attention kernels on GPUs are faster on aligned rows.
const WIDTH_STEP: usize = 8;

/// A batch's tensors, all of 64-bit integers; its `T` tokens lie end to end, without padding.
#[derive(Debug)]
pub struct DeviceBatch {
    /// The batch on the host: rows, keys and questions for whoever wants them as slices.
    pub host: Arc<Batch>,
    /// Number of choices over all questions.
    pub choices: i64,
    /// `[T]` token ids.
    pub ids: Tensor,
    /// `[T]` position ids.
    pub position: Tensor,
    /// `[T]` block position ids.
    pub block_position: Tensor,
    /// `[scored]` indices into `[T]`.
    pub scored: Tensor,
    /// `[pairs]` entries of `scored`, one for each token of each choice.
    pub scored_of_pair: Tensor,
    /// `[pairs]` tokens to predict.
    pub target: Tensor,
    /// `[pairs]` choices that the tokens belong to.
    pub choice_of_pair: Tensor,
    /// `[questions, most choices]` indices of choices; `choices` where there is none.
    pub choice_table: Tensor,
    /// `[questions]` index of the first right choice.
    pub label: Tensor,
    /// For attention over rows of equal width, where it was asked for.
    pub padded: Option<PaddedView>,
    storage: Tensor,
}

/// How a batch's tokens become rows of equal width and come back.
#[derive(Debug)]
pub struct PaddedView {
    /// Number of rows.
    pub rows: i64,
    /// Tokens of a row: the longest row, rounded up to a multiple of 8.
    pub width: i64,
    /// `[rows · width]` the token at each place, of `[T]`; at places of padding the row's first token.
    pub pad_index: Tensor,
    /// `[T]` the place of each token, of `[rows · width]`.
    pub unpad_index: Tensor,
    /// `[rows, width]` piece numbers: 0 for context and padding, 1 for the start of piece, from 2 on the tokens of each choice.
    pub piece: Tensor,
    /// `[rows]` context tokens.
    pub sep: Tensor,
}

/// The columns of a padded view on the host.
struct PaddedColumns {
    width: usize,
    pad_index: Vec<i64>,
    unpad_index: Vec<i64>,
    piece: Vec<i64>,
    sep: Vec<i64>,
}

impl PaddedColumns {
    fn of(batch: &Batch) -> Self {
        let width = batch.max_row().next_multiple_of(WIDTH_STEP);
        let places = batch.rows.len() * width;
        let mut columns = Self {
            width,
            pad_index: Vec::with_capacity(places),
            unpad_index: Vec::with_capacity(batch.tokens()),
            piece: Vec::with_capacity(places),
            sep: batch.rows.iter().map(|row| row.context as i64).collect(),
        };
        for row in &batch.rows {
            let (start, end) = (row.start as i64, (row.start + row.length) as i64);
            let first_place = columns.pad_index.len();
            columns.unpad_index.extend((first_place as i64..).take(row.length));
            columns.pad_index.extend(start..end);
            columns.pad_index.resize(first_place + width, start);
            columns.piece.resize(first_place + row.context, 0);
            // A piece's first token is the one that sees from itself on: the start of piece, then the first of each choice.
            let mut piece = 0;
            for (index, &from) in batch.visible_from[row.start..row.start + row.length].iter().enumerate().skip(row.context) {
                piece += i64::from(from as usize == index);
                columns.piece.push(piece);
            }
            columns.piece.resize(first_place + width, 0);
        }
        columns
    }
}

/// Cuts one tensor into the columns that were laid end to end in it.
struct Cutter<'a> {
    storage: &'a Tensor,
    next: i64,
}

impl Cutter<'_> {
    fn column(&mut self, values: &[i64]) -> Result<Tensor, TchError> {
        let column = self.storage.f_narrow(0, self.next, values.len() as i64)?;
        self.next += values.len() as i64;
        Ok(column)
    }
}

impl Batch {
    /// Copies the batch to a device and waits until it is there. `padded_view`: whether to make a [`PaddedView`] too.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn to_device(self: &Arc<Self>, device: Device, padded_view: bool) -> Result<DeviceBatch, TchError> {
        self.upload(&mut Direct::to(device), padded_view)
    }

    /// Starts copying the batch to a transfer's device: all columns in one piece. What comes back must not be used before
    /// the transfer's [`ready`](Transfer::ready) says so.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn upload(self: &Arc<Self>, transfer: &mut dyn Transfer, padded_view: bool) -> Result<DeviceBatch, TchError> {
        let padded = padded_view.then(|| PaddedColumns::of(self));
        let mut columns: Vec<&[i64]> = vec![
            &self.ids,
            &self.position,
            &self.block_position,
            &self.scored,
            &self.scored_of_pair,
            &self.target,
            &self.choice_of_pair,
            &self.choice_table,
            &self.label,
        ];
        if let Some(padded) = &padded {
            columns.extend([&padded.pad_index[..], &padded.unpad_index, &padded.piece, &padded.sep]);
        }
        let pinned = transfer.pin(&columns)?;
        let storage = transfer.copy_async(&pinned)?;
        let mut cutter = Cutter { storage: &storage, next: 0 };
        let questions = self.questions.len();
        let most_choices = self.choice_table.len().checked_div(questions).unwrap_or(0);
        Ok(DeviceBatch {
            host: Arc::clone(self),
            choices: self.choices as i64,
            // In the order in which they were laid down.
            ids: cutter.column(&self.ids)?,
            position: cutter.column(&self.position)?,
            block_position: cutter.column(&self.block_position)?,
            scored: cutter.column(&self.scored)?,
            scored_of_pair: cutter.column(&self.scored_of_pair)?,
            target: cutter.column(&self.target)?,
            choice_of_pair: cutter.column(&self.choice_of_pair)?,
            choice_table: cutter.column(&self.choice_table)?.f_view([questions as i64, most_choices as i64])?,
            label: cutter.column(&self.label)?,
            padded: padded.as_ref().map(|padded| self.padded_view(padded, &mut cutter)).transpose()?,
            storage,
        })
    }

    fn padded_view(&self, padded: &PaddedColumns, cutter: &mut Cutter<'_>) -> Result<PaddedView, TchError> {
        let (rows, width) = (self.rows.len() as i64, padded.width as i64);
        Ok(PaddedView {
            rows,
            width,
            pad_index: cutter.column(&padded.pad_index)?,
            unpad_index: cutter.column(&padded.unpad_index)?,
            piece: cutter.column(&padded.piece)?.f_view([rows, width])?,
            sep: cutter.column(&padded.sep)?,
        })
    }
}

impl DeviceBatch {
    /// `T`: tokens of all rows.
    pub fn tokens(&self) -> i64 {
        self.host.tokens() as i64
    }

    /// The one tensor that all others are views of.
    pub fn storage(&self) -> &Tensor {
        &self.storage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic::{SyntheticQuestion, group, packer, samples};

    fn column(tensor: &Tensor) -> Vec<i64> {
        Vec::try_from(tensor.reshape([-1])).expect("integers")
    }

    #[test]
    fn a_padded_view_holds_every_token_once_and_gives_it_back() {
        // A passage that is too long for its longer choice: rows of two different contexts, and a short question.
        let long =
            SyntheticQuestion { choices: vec![vec![11], vec![12, 13, 14], vec![15]], ..SyntheticQuestion::of_length(60, 1) };
        let batches =
            packer(40, 1000).pack(&samples(&group(&[long, SyntheticQuestion::of_length(5, 2)]), 0)).expect("fits").batches;
        let batch = Arc::new(batches.into_iter().next().expect("one batch"));
        assert_eq!(batch.rows.iter().map(|row| row.length).collect::<Vec<_>>(), [41, 40, 14]);
        let on_device = batch.to_device(Device::Cpu, true).expect("tensors");
        let view = on_device.padded.as_ref().expect("asked for");
        assert_eq!((view.rows, view.width, on_device.tokens()), (3, 48, 95));
        assert_eq!((view.piece.size(), view.sep.size()), (vec![3, 48], vec![3]));

        let padded = on_device.ids.index_select(0, &view.pad_index);
        assert_eq!(column(&padded.index_select(0, &view.unpad_index)), batch.ids);
        let (piece, pad_index, sep) = (column(&view.piece), column(&view.pad_index), column(&view.sep));
        for (number, row) in batch.rows.iter().enumerate() {
            assert_eq!(sep[number], row.context as i64);
            let place = |index: usize| number * 48 + index;
            assert!((0..row.length).all(|index| pad_index[place(index)] == (row.start + index) as i64));
            assert!((row.length..48).all(|index| pad_index[place(index)] == row.start as i64 && piece[place(index)] == 0));
            assert!((0..row.context).all(|index| piece[place(index)] == 0));
            assert_eq!(piece[place(row.context)], 1);
        }
        // The first row has the two choices of one token, the second the one of three.
        assert_eq!(piece[38..41], [1, 2, 3]);
        assert_eq!(piece[48 + 36..48 + 41], [1, 2, 2, 2, 0]);
    }

    #[test]
    fn an_empty_batch_has_empty_tensors() {
        let on_device = Arc::new(Batch::default()).to_device(Device::Cpu, true).expect("tensors");
        assert_eq!((on_device.ids.size(), on_device.choice_table.size()), (vec![0], vec![0, 0]));
    }
}
