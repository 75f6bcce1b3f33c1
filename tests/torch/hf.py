"""A Hugging Face Trainer on a tiny GPT-2 that is made on the spot; resumes from its newest checkpoint-N."""

import os

import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

BATCH = 4
SAMPLES = 512


class Samples(torch.utils.data.Dataset):
    def __init__(self, seed, count):
        self.seed, self.count = seed, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        tokens, _ = tiny.sample(self.seed, index)
        return {"input_ids": tokens, "labels": tokens}


class Paced(TrainerCallback):
    def __init__(self, arguments):
        self.pace = tiny.Pace(arguments)

    def on_step_end(self, args, state, control, **_):
        self.pace.wait()


def main():
    arguments = tiny.options(__doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=tiny.VOCABULARY, n_positions=tiny.CONTEXT, n_embd=arguments.width,
                                       n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))
    saves = {"save_strategy": "steps", "save_steps": arguments.save_every} if arguments.save_every else {
        "save_strategy": "no"}
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=arguments.directory, max_steps=arguments.steps, per_device_train_batch_size=BATCH,
            logging_steps=1, save_total_limit=3, report_to=[], use_cpu=True, seed=arguments.seed,
            learning_rate=1e-2, lr_scheduler_type="constant", dataloader_num_workers=0, **saves),
        train_dataset=Samples(arguments.seed, SAMPLES),
        callbacks=[Paced(arguments)],
    )
    newest = get_last_checkpoint(arguments.directory) if os.path.isdir(arguments.directory) else None
    trainer.train(resume_from_checkpoint=newest)
    tiny.finish(arguments, model)


if __name__ == "__main__":
    main()
