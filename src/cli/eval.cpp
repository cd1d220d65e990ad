#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/paths.h"
#include "calque/eval/evaluate.h"
#include "calque/formats/reader.h"
#include "calque/io/hub_cache.h"
#include "calque/job/builtin_texts.h"
#include "calque/job/evaluation_settings.h"
#include "calque/pipeline/evaluate_tasks.h"
#include "calque/pipeline/evaluate_texts.h"
#include "calque/record/report_json.h"
#include "cli/commands.h"
#include "cli/evaluation_tables.h"
#include "cli/progress.h"

namespace calque::cli {
namespace {

struct EvalArguments {
  std::vector<std::string> artifacts;
  std::string reference;
  std::vector<std::string> texts;
  std::string tokens;
  std::vector<std::string> tasks;
  std::int64_t task_limit = 0;
  bool task_template = false;
  std::int64_t seqlen = 512;
  std::int64_t windows = 0;
  std::string dtype = "float32";
  std::string add_bos = "auto";
  int threads = 0;
  bool noise_floor = false;
  std::vector<std::string> kv_caches;
  std::vector<std::int64_t> kv_seqlens;
  std::string progress = "auto";
  bool json = false;
};

// Parses "q8_0", "q8_0/q4_0", "q4_0/-", each optionally with "@0-3".
job::KvCacheSettings kv_cache_from(const std::string& text) {
  const auto type_of = [](const std::string& name) { return name == "-" ? "" : name; };
  job::KvCacheSettings cache;
  const std::string types = text.substr(0, text.find('@'));
  if (types.size() < text.size()) cache.layers = text.substr(types.size() + 1);
  const std::size_t slash = types.find('/');
  if (slash == std::string::npos) {
    cache.k_type = cache.v_type = types;
  } else {
    cache.k_type = type_of(types.substr(0, slash));
    cache.v_type = type_of(types.substr(slash + 1));
  }
  return cache;
}

// Files, and calque's own tasks by the word `builtin`.
std::vector<job::TaskSettings> tasks_of(const EvalArguments& arguments) {
  std::vector<job::TaskSettings> tasks;
  for (const std::string& name : arguments.tasks)
    if (name == job::kBuiltin)
      append(job::builtin_tasks(), tasks);
    else
      tasks.emplace_back().file = name;
  for (job::TaskSettings& task : tasks) {
    task.limit = arguments.task_limit;
    task.format.chat_template = arguments.task_template;
  }
  return tasks;
}

job::EvaluationSettings settings_of(const EvalArguments& arguments) {
  job::EvaluationSettings settings;
  if (!arguments.tokens.empty())
    settings.texts.push_back({.name = "", .text = {}, .tokens = arguments.tokens, .windows = {}});
  for (const std::string& path : arguments.texts)
    settings.texts.push_back({.name = "", .text = path, .tokens = {}, .windows = {}});
  settings.tasks = tasks_of(arguments);
  settings.seqlen = arguments.seqlen;
  settings.windows = arguments.windows;
  settings.dtype = arguments.dtype;
  if (arguments.add_bos != "auto") settings.add_bos = arguments.add_bos == "true";
  settings.noise_floor = arguments.noise_floor;
  for (const std::string& cache : arguments.kv_caches)
    settings.kv_cache.push_back(kv_cache_from(cache));
  settings.kv_cache_seqlens = arguments.kv_seqlens;
  return settings;
}

void evaluate(const EvalArguments& arguments) {
  const auto reference = formats::open_artifact(arguments.reference);
  std::vector<std::unique_ptr<formats::ArtifactReader>> readers;
  std::vector<eval::EvalModel> candidates;
  for (const std::string& path : arguments.artifacts) {
    readers.push_back(formats::open_artifact(path));
    candidates.push_back(pipeline::evaluated(last_name(path), *readers.back()));
  }
  const job::EvaluationSettings settings = settings_of(arguments);
  job::check_evaluation(settings);
  job::Tokens tokens(arguments.reference);
  pipeline::EvaluationWork work{
      .settings = settings,
      .tokens = tokens,
      .original = pipeline::evaluated(last_name(arguments.reference), *reference),
      .artifacts = candidates,
      .runner = {.dtype = forward::compute_dtype_from(arguments.dtype),
                 .threads = arguments.threads}};
  for (const job::TaskSettings& task : settings.named_tasks())
    work.tasks.push_back(job::task_questions(task, tokens, settings.add_bos, reference->config()));
  std::vector<record::EvaluationReport> evaluations;
  std::vector<record::TaskReport> tasks;
  {
    Progress progress(progress_mode(arguments.progress), std::cerr, terminal_width());
    evaluations = pipeline::evaluate_texts(work, progress);
    tasks = pipeline::evaluate_tasks(work, progress);
  }
  if (arguments.json)
    fmt::print("{}", record::evaluations_json(evaluations, tasks));
  else
    fmt::print("{}", evaluations_text(evaluations) + tasks_text(tasks));
}

}  // namespace

Command eval_command(const CommandContext&) {
  const auto a = std::make_shared<EvalArguments>();
  return {
      "eval",
      "Measure artifacts and the original: perplexity, divergence, right answers on tasks.",
      {Option{"artifacts", &a->artifacts,
              "Quantized or plain Hugging Face folders, or GGUF files. Without any, only the "
              "original is measured."}
           .path(),
       Option{"--reference", &a->reference,
              "The original model: a Hugging Face folder or a GGUF file, with its tokenizer."}
           .required()
           .model(),
       Option{"--text", &a->texts,
              "Text file, read as one document. May be repeated: each text is measured "
              "separately, under its file name."}
           .path(),
       Option{"--tokens", &a->tokens,
              "Token ids (.safetensors), if the tokenizer is not supported."}
           .without("--text")
           .path(),
       Option{
           "--tasks", &a->tasks,
           "File of questions with right answers (.jsonl), or the word builtin: calque's own. May "
           "be repeated."}
           .path()
           .such_as({"builtin"}),
       Option{"--task-limit", &a->task_limit, "Questions of each task, from the first; 0: all."}
           .from(0, kAny),
       {"--task-template", &a->task_template,
        "Ask by the model's own chat template. Job files can set more for each task."},
       Option{"--seqlen", &a->seqlen, "Tokens per window."}.from(2, 1 << 20),
       Option{"--windows", &a->windows,
              "Number of windows, from the start of the text; 0: all full windows."}
           .from(0, kAny),
       Option{"--dtype", &a->dtype, "Precision of the forward pass."}.among(
           {"float32", "bfloat16", "auto"}),
       Option{"--add-bos", &a->add_bos,
              "auto, true or false: begin every window with a BOS, which is not scored. auto: the "
              "tokens that the tokenizer puts first."}
           .among({"auto", "true", "false"}),
       {"--noise-floor", &a->noise_floor,
        "Also measure the original computed in bfloat16 against itself."},
       Option{"--kv-cache", &a->kv_caches,
              "Type of the key/value cache: f16, fp8, q8_0, q5_1 or q4_0, or KEYS/VALUES (-: "
              "not rounded); append @0-3,7 for some layers only. May be repeated; each is "
              "measured on every model."}
           .called("TYPE")
           .such_as({"f16", "fp8", "q8_0", "q5_1", "q4_0"}),
       Option{"--kv-seqlen", &a->kv_seqlens,
              "Tokens per window for --kv-cache; 0: the longest that text and model allow. May "
              "be repeated. Default: --seqlen and 0."}
           .from(0, 1 << 20),
       threads_option(a->threads),
       progress_option(a->progress),
       json_option(a->json, "Print the \"evaluations\" value of metrics.json.")},
      "  calque eval out/demo-GPTQ-Int4 out/demo-Q4_0.gguf --reference tests/models/demo \\\n"
      "      --text calibration_data/heldout_pride_and_prejudice.txt --windows 40\n"
      "  calque eval out/demo-GPTQ-Int4 --reference tests/models/demo --tasks builtin",
      [a] {
        if (a->texts.empty() && a->tokens.empty() && a->tasks.empty())
          throw Error(ErrorKind::kConfig, "E001",
                      "there is nothing to measure on: give --text, --tokens or --tasks");
        a->reference = io::path_of_model(a->reference).string();
        evaluate(*a);
      }};
}

}  // namespace calque::cli
