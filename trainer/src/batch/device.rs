//! Packed batch as tensors on the device that computes.

use std::sync::Arc;

use tch::{Device, TchError, Tensor};

use super::blocks::pad;
use super::layout::{Layout, LayoutColumns, LayoutKind};
use super::packed::Batch;
use super::transfer::{Direct, Transfer};

/// Tensors of a batch, all of 64-bit integers; its `T` tokens lie end to end, without padding between rows. With a layout of
/// blocks, `T` and the number of scored tokens include those of a row of padding at the end, see [`super::blocks`].
#[derive(Debug)]
pub struct DeviceBatch {
    /// The batch on the host.
    pub host: Arc<Batch>,
    /// Token ids `[T]`.
    pub ids: Tensor,
    /// Position ids `[T]`.
    pub position: Tensor,
    /// Block position ids `[T]`.
    pub block_position: Tensor,
    /// Indices into `[T]` of the tokens whose output is scored `[scored]`.
    pub scored: Tensor,
    /// Entry of `scored` that predicts each target `[targets]`.
    pub scored_index: Tensor,
    /// Token to predict `[targets]`.
    pub target: Tensor,
    /// Group of each target `[targets]`.
    pub group: Tensor,
    /// Columns of the task, see [`Batch::task_columns`].
    pub task_columns: Vec<Tensor>,
    /// Tables for the implementation of the model's operations.
    pub layout: Layout,
    storage: Tensor,
}

impl Batch {
    /// Copies the batch to a device and waits for the copy.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn to_device(self: &Arc<Self>, device: Device, layout: LayoutKind) -> Result<DeviceBatch, TchError> {
        self.upload(&mut Direct::to(device), layout)
    }

    /// Starts copying the batch to a transfer's device: all columns in one piece. The result must not be used before the
    /// transfer's [`ready`](Transfer::ready) mark.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn upload(self: &Arc<Self>, transfer: &mut dyn Transfer, layout: LayoutKind) -> Result<DeviceBatch, TchError> {
        let padded = (layout == LayoutKind::Blocks).then(|| pad(self));
        let batch = padded.as_ref().unwrap_or(self);
        let layout = LayoutColumns::new(layout, batch);
        let (inputs, targets) = (&batch.inputs, &batch.targets);
        let mut columns: Vec<&[i64]> = vec![
            &inputs.ids,
            &inputs.position,
            &inputs.block_position,
            &targets.scored,
            &targets.scored_index,
            &targets.token,
            &targets.group,
        ];
        columns.extend(self.task_columns.iter().chain(layout.columns()).map(Vec::as_slice));
        let pinned = transfer.pin(&columns)?;
        let storage = transfer.copy_async(&pinned)?;
        let mut start = 0;
        // Views of the storage, in the order in which the columns were laid down.
        let mut next = |column: &[i64]| {
            let view = storage.f_narrow(0, start, column.len() as i64)?;
            start += column.len() as i64;
            Ok(view)
        };
        Ok(DeviceBatch {
            host: Arc::clone(self),
            ids: next(&inputs.ids)?,
            position: next(&inputs.position)?,
            block_position: next(&inputs.block_position)?,
            scored: next(&targets.scored)?,
            scored_index: next(&targets.scored_index)?,
            target: next(&targets.token)?,
            group: next(&targets.group)?,
            task_columns: self.task_columns.iter().map(|column| next(column)).collect::<Result<_, TchError>>()?,
            layout: layout.on_device(next)?,
            storage,
        })
    }
}

impl DeviceBatch {
    /// Handles to the same tensors, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            host: Arc::clone(&self.host),
            ids: self.ids.shallow_clone(),
            position: self.position.shallow_clone(),
            block_position: self.block_position.shallow_clone(),
            scored: self.scored.shallow_clone(),
            scored_index: self.scored_index.shallow_clone(),
            target: self.target.shallow_clone(),
            group: self.group.shallow_clone(),
            task_columns: self.task_columns.iter().map(Tensor::shallow_clone).collect(),
            layout: self.layout.share(),
            storage: self.storage.shallow_clone(),
        }
    }

    /// The tensor of which all others are views.
    pub fn storage(&self) -> &Tensor {
        &self.storage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(tensor: &Tensor) -> Vec<i64> {
        Vec::try_from(tensor.reshape([-1])).expect("integers")
    }

    /// Rows with these lengths of context, each followed by the start of piece and pieces of these lengths.
    fn batch(rows: &[(usize, &[usize])]) -> Arc<Batch> {
        let mut batch = Batch::default();
        for (ordinal, (context, pieces)) in rows.iter().enumerate() {
            batch.push_context(&vec![ordinal as i32 + 1; *context]);
            batch.push_scored(90, 3, 1, *context);
            let mut index = context + 1;
            for piece in *pieces {
                for block_position in (2..).take(*piece) {
                    batch.push_scored(91, 3, block_position, index);
                }
                index += piece;
            }
            batch.end_row(ordinal as u64, 0);
        }
        Arc::new(batch)
    }

    #[test]
    fn padded_view_holds_every_token_once_and_gives_it_back() {
        let batch = batch(&[(38, &[1, 1]), (36, &[3]), (11, &[1, 1])]);
        assert_eq!(batch.inputs.rows.iter().map(|row| row.length).collect::<Vec<_>>(), [41, 40, 14]);
        let on_device = batch.to_device(Device::Cpu, LayoutKind::Padded).expect("tensors");
        let Layout::Padded(view) = &on_device.layout else { panic!("another layout") };
        assert_eq!((view.rows, view.width, batch.tokens()), (3, 48, 95));
        assert_eq!((view.piece.size(), view.context.size()), (vec![3, 48], vec![3]));

        let padded = on_device.ids.index_select(0, &view.pad_index);
        assert_eq!(column(&padded.index_select(0, &view.unpad_index)), batch.inputs.ids);
        let (piece, pad_index, context) = (column(&view.piece), column(&view.pad_index), column(&view.context));
        for (number, row) in batch.inputs.rows.iter().enumerate() {
            assert_eq!(context[number], row.context as i64);
            let place = |index: usize| number * 48 + index;
            assert!((0..row.length).all(|index| pad_index[place(index)] == (row.start + index) as i64));
            assert!((row.length..48).all(|index| pad_index[place(index)] == row.start as i64 && piece[place(index)] == 0));
            assert!((0..row.context).all(|index| piece[place(index)] == 0));
            assert_eq!(piece[place(row.context)], 1);
        }
        // The first row has two pieces of one token, the second one of three.
        assert_eq!(piece[38..41], [1, 2, 3]);
        assert_eq!(piece[48 + 36..48 + 41], [1, 2, 2, 2, 0]);
    }

    #[test]
    fn columns_of_the_task_travel_with_the_batch() {
        let batch = Batch { task_columns: vec![vec![4, 5, 6], vec![7]], ..Batch::clone(&batch(&[(3, &[2])])) };
        let on_device = Arc::new(batch).to_device(Device::Cpu, LayoutKind::Packed).expect("tensors");
        assert_eq!(on_device.task_columns.iter().map(column).collect::<Vec<_>>(), [vec![4, 5, 6], vec![7]]);
        assert!(matches!(on_device.layout, Layout::Packed));
    }

    #[test]
    fn empty_batch_has_empty_tensors() {
        let on_device = Arc::new(Batch::default()).to_device(Device::Cpu, LayoutKind::Padded).expect("tensors");
        assert_eq!((on_device.ids.size(), on_device.target.size()), (vec![0], vec![0]));
    }
}
