"""vLLM without a server, as the labeler's bench compares it: `python -m tests.bench.offline MODEL`.

Reads paths of JSON files {"prompts": [[id]], "token_ids": [id]} from standard input, a line each; writes one line of
JSON {"seconds", "scores"} for each. The first line says that the model is loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

#: As the labeler starts its server, which is one process more.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
}


def main() -> None:
    """Loads the model and answers until standard input ends."""
    from vllm import LLM, SamplingParams, TokensPrompt

    # vLLM's own words go to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    llm = LLM(
        model=sys.argv[1],
        dtype="float32",
        enforce_eager=True,
        block_size=32,
        kv_cache_memory_bytes=1 << 30,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        skip_tokenizer_init=True,
        generation_config="vllm",
        disable_log_stats=True,
    )
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(Path(line.strip()).read_text())
        token_ids = job["token_ids"]
        sampling = SamplingParams(
            max_tokens=1, temperature=0, logprobs=len(token_ids), logprob_token_ids=token_ids, detokenize=False
        )
        prompts = [TokensPrompt(prompt_token_ids=prompt) for prompt in job["prompts"]]
        start = time.perf_counter()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
        scores = []
        for output in outputs:
            found = output.outputs[0].logprobs[0]
            scores.append([found[token_id].logprob for token_id in token_ids])
        print(json.dumps({"seconds": seconds, "scores": scores}), file=answers, flush=True)


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    main()
