"""Golden data of benchmarks: prompts, extracted answers, scores and log-likelihoods by lm-evaluation-harness.

Writes eval/lm-eval.json. The log-likelihoods are those of models/tiny-qwen3 in float32.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import lm_eval
import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.filters.extraction import RegexFilter
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.gpqa.zeroshot import utils as gpqa
from lm_eval.tasks.mmlu_pro import utils as mmlu_pro
from lm_eval.utils import apply_template

HERE = Path(__file__).parent
TASKS = Path(lm_eval.__file__).parent / "tasks"


class Loader(yaml.SafeLoader):
    """Task files name functions of their own."""


Loader.add_constructor("!function", lambda loader, node: node.value)


def config(path):
    return yaml.load((TASKS / path).read_text(), Loader)


def scores(task, completions, target):
    """By filter: what is read out of each completion, and whether it is right."""
    [metric] = task["metric_list"]
    options = {k: v for k, v in metric.items() if k not in ("metric", "aggregation", "higher_is_better")}
    result = {}
    for entry in task["filter_list"]:
        regex = {k: v for k, v in entry["filter"][0].items() if k != "function"}
        [answers] = RegexFilter(**regex).apply([completions], [{}])
        right = [
            float(exact_match_hf_evaluate(predictions=[a], references=[target], **options)["exact_match"])
            for a in answers
        ]
        result[entry["name"]] = {"answers": answers, "scores": right}
    return result


gsm8k = config("gsm8k/gsm8k.yaml")
GSM8K_ROW = {
    "question": "Ann had 1,200 nuts and sold 45 of them. How many are left?",
    "answer": "She has 1200-45=<<1200-45=1155>>1155 nuts left.\n#### 1,155",
}
GSM8K_COMPLETIONS = [
    " 1200 - 45 = 1155\n#### 1155",
    " #### 1,155",
    " #### 1155.\n\n",
    " #### -1155",
    " It is $1,155.",
    " The answer is 1155 nuts, that is 3 bags.",
    " 7",
    " no idea",
    "",
    " #### 12\n#### 1155",
    " ####1155",
    " So 1155.00",
]

mmlu = config("mmlu/default/_default_template_yaml")
MMLU_ROW = {"question": " What is 2+2? ", "choices": ["3", "4", "five", "22"], "answer": 1}
MMLU_PRO_ROW = {
    "question": "Which one is even?",
    "options": ["1", " 2 ", "3", "5", "7"],
    "answer": "B",
    "cot_content": "A: Let's think step by step. Two is even. The answer is (B).",
}
PRO_COMPLETIONS = [
    " Two is even. The answer is (B).",
    " so the answer is B",
    " the answer is (C). No, the answer is (B).",
    " B",
    " the answer is (b)",
]
GPQA_ROW = {
    "Question": "Which is a metal?",
    "Correct Answer": " Iron [title] Fe ",
    "Incorrect Answer 1": "Neon",
    "Incorrect Answer 2": "Argon  gas",
    "Incorrect Answer 3": "Helium",
}

AIME_ROW = {"Problem": "Find $x$.", "Answer": 25}

names = ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]
gpqa_choices = [gpqa.preprocess(GPQA_ROW[name]) for name in names]
gpqa_doc = {"Question": GPQA_ROW["Question"], **{f"choice{i + 1}": c for i, c in enumerate(gpqa_choices)}}
prompts = {
    "gsm8k": apply_template(gsm8k["doc_to_text"], GSM8K_ROW),
    "mmlu": apply_template(mmlu["doc_to_text"], MMLU_ROW),
    "mmlu-pro": mmlu_pro.format_cot_example(MMLU_PRO_ROW, including_answer=False),
    # With the right answer first.
    "aime": apply_template(config("aime/aime24.yaml")["doc_to_text"], AIME_ROW),
    "gpqa": apply_template(config("gpqa/zeroshot/_gpqa_zeroshot_yaml")["doc_to_text"], gpqa_doc),
}


class FunctionLoader(yaml.SafeLoader):
    """Task files whose functions are needed: those of MMLU-Pro."""


FunctionLoader.add_constructor("!function", lambda loader, node: getattr(mmlu_pro, node.value.split(".")[1]))
# Where a benchmark comes from; the rows here are ours.
SOURCE = ["dataset_name", "tag", "process_docs", "include", "task_alias", "training_split", "validation_split"]
SOURCE += ["should_decontaminate", "doc_to_decontamination_query"]


def task_of(path, examples, row, **more):
    """A task of lm-evaluation-harness on rows of our own, which shows the first examples."""
    task = {**yaml.load((TASKS / path).read_text(), FunctionLoader), **more}
    with tempfile.TemporaryDirectory() as folder:
        files = {"train": examples, "test": [row]}
        for name, rows in files.items():
            Path(folder, name).write_text("".join(json.dumps(r) + "\n" for r in rows))
        paths = {name: str(Path(folder, name)) for name in files}
        return ConfigurableTask(
            config={
                **{k: v for k, v in task.items() if k not in SOURCE},
                "task": "ours",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": paths, "cache_dir": folder},
                "fewshot_split": "train",
                "test_split": "test",
                "fewshot_config": {**task.get("fewshot_config", {}), "sampler": "first_n"},
            }
        )


def description(path):
    return {"description": yaml.load((TASKS / path).read_text(), FunctionLoader)["description"]}


def letters(question, answer):
    return {"question": question, "choices": ["w", "x ", "y", "z"], "answer": answer, "subject": "abstract_algebra"}


def options(question, answer):
    cot = f"A: Let's think step by step. Because. The answer is ({answer})."
    row = {"question": question, "options": ["w", " x ", "y"], "answer": answer, "cot_content": cot}
    return {**row, "category": "biology"}


def texts(question, answer):
    return {"question": question, "choices": {"text": ["iron", "neon gas", "a"], "label": ["A", "B", "C"]}, "answerKey": answer}


SHOWN = {
    "gsm8k": (
        "gsm8k/gsm8k.yaml",
        [{"question": "One?", "answer": "1<<1=1>>\n#### 1"}, {"question": " Two? ", "answer": "2\n#### 2"}, GSM8K_ROW],
        {},
    ),
    "mmlu": (
        "mmlu/default/_default_template_yaml",
        [letters(" One?", 1), letters("Two? ", 3), letters("Three?", 0)],
        description("mmlu/default/mmlu_abstract_algebra.yaml"),
    ),
    "mmlu-pro": (
        "mmlu_pro/_default_template_yaml",
        [options("One?", "B"), options("Two?", "C"), options("Three?", "A")],
        description("mmlu_pro/mmlu_pro_biology.yaml"),
    ),
    "arc-easy": ("arc/arc_easy.yaml", [texts("One?", "B"), texts("Two?", "A"), texts("Three?", "C")], {}),
}
contexts = {}
for name, (path, rows, more) in SHOWN.items():
    task = task_of(path, rows[:-1], rows[-1], **more)
    contexts[name] = {"rows": rows, "context": task.fewshot_context(task.test_docs()[0], len(rows) - 1)}

# The likeliest, and the likeliest by character, of three choices of 4, 8 and 1 characters.
arc = task_of("arc/arc_easy.yaml", SHOWN["arc-easy"][1][:1], texts("Which?", "B"))
LOG_LIKELIHOODS = [[-3.0, -4.0, -2.0], [-3.0, -4.0, -0.25], [-1.0, -4.0, -2.0], [-9.0, -1.0, -2.0]]
choice_scores = [
    {"log_likelihoods": own, "metrics": arc.process_results(arc.test_docs()[0], [(value, False) for value in own])}
    for own in LOG_LIKELIHOODS
]

lm = HFLM(pretrained=str(HERE / "../../models/tiny-qwen3"), dtype="float32", device="cpu", batch_size=1)
requests = [(prompts["mmlu"], f" {c}") for c in "ABCD"]
requests += [(prompts["gpqa"], f" ({c})") for c in "ABCD"]
requests += [(contexts["arc-easy"]["context"], f" {c}") for c in ["iron", "neon gas", "a"]]
requests += [("654321=\n", " 1"), ("654321=", " 1 and more")]
instances = [
    Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(requests)
]
likelihoods = lm.loglikelihood(instances)

golden = {
    "lm_eval": lm_eval.__version__,
    "rows": {"gsm8k": GSM8K_ROW, "mmlu": MMLU_ROW, "mmlu-pro": MMLU_PRO_ROW, "gpqa": GPQA_ROW, "aime": AIME_ROW},
    "prompts": prompts,
    "contexts": contexts,
    "choice_scores": {"row": texts("Which?", "B"), "scores": choice_scores},
    "completions": {
        "gsm8k": {"texts": GSM8K_COMPLETIONS, "filters": scores(gsm8k, GSM8K_COMPLETIONS, GSM8K_ROW["answer"])},
        "mmlu-pro": {
            "texts": PRO_COMPLETIONS,
            "filters": scores(config("mmlu_pro/_default_template_yaml"), PRO_COMPLETIONS, MMLU_PRO_ROW["answer"]),
        },
    },
    "likelihoods": [
        {"context": context, "continuation": continuation, "log_likelihood": value}
        for (context, continuation), (value, _greedy) in zip(requests, likelihoods)
    ],
}
out = HERE / "eval"
out.mkdir(exist_ok=True)
(out / "lm-eval.json").write_text(json.dumps(golden, indent=2, ensure_ascii=False) + "\n")
