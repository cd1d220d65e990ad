#include "config/keys.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "calque/core/error.h"
#include "calque/io/hub_cache.h"
#include "calque/job/builtin_texts.h"
#include "config/sections.h"

namespace calque::config {
namespace {

using job::CalibrationSettings;
using job::EvaluationSettings;
using job::Job;
using job::ModelSettings;
using Presence = Section::Presence;

// The version of the file's grammar. It is not part of the job.
Key version_key() {
  Key result;
  result.name = "version";
  result.type = "1";
  result.doc = "Version of the job file's format.";
  result.store = [](const YamlNode& node, const std::filesystem::path&, void*) -> Problem {
    if (node.kind == YamlNode::Kind::kScalar && !node.quoted && node.text == "1") return {};
    return {"E110", fmt::format("must be 1, the only version, not {}", describe(node))};
  };
  result.show = [](const void*) { return "1"; };
  return result;
}

Section top_level() {
  Section s;
  s.doc = "Top level.";
  one(s, [](auto& job) { return &job; });
  s.keys = {
      version_key(),
      with_default(key("name", folder_name(), &Job::name, "Name of the job in reports."),
                   "`<model folder>-<method>-<bits>bit`"),
      with_default(key("run_dir", path(), &Job::run_dir,
                       "Folder for the record of the run: `job.resolved.yaml`, "
                       "`calibration_manifest.json`, `modules.csv`, `log.jsonl`, "
                       "`metrics.json`."),
                   "`runs/<name>`"),
  };
  return s;
}

// A path, or else a name in the Hugging Face cache.
Key model_path_key() {
  Key result = required(
      key("path", path(), &ModelSettings::path,
          "Hugging Face folder with `config.json`, `*.safetensors` and tokenizer files; a GGUF "
          "file; or the name of a model in the Hugging Face cache (`org/name`, "
          "`org/name@revision`), if there is no such path."));
  result.store = [as_path = result.store](const YamlNode& node, const std::filesystem::path& folder,
                                          void* target) {
    Problem problem = as_path(node, folder, target);
    auto& model = *static_cast<ModelSettings*>(target);
    if (!problem.empty() || std::filesystem::exists(model.path) || !io::is_hub_name(node.text))
      return problem;
    model.hub_name = node.text;
    if (const auto found = io::find_in_hub_cache(node.text)) model.path = *found;
    return problem;
  };
  return result;
}

Section model_section() {
  Section s;
  s.path = "model";
  s.doc = "The model to quantize.";
  s.presence = Presence::kRequired;
  one(s, [](auto& job) { return &job.model; });
  s.keys = {
      model_path_key(),
      key("allow_requantize", boolean(), &ModelSettings::allow_requantize,
          "Accept a GGUF file that is already quantized; its losses remain."),
  };
  return s;
}

Section calibration_section() {
  using S = CalibrationSettings;
  const Choice<text::Packing> packings[] = {{"concat", text::Packing::kConcat},
                                            {"truncate", text::Packing::kTruncate},
                                            {"pad", text::Packing::kPad}};
  Section s;
  s.path = "calibration";
  s.doc =
      "Text that the model reads while the inputs of its linears are measured. Give `sources` or "
      "`tokens`; method `rtn` needs neither.";
  one(s, [](auto& job) { return &job.calibration; });
  s.keys = {
      key("n_samples", integer(1), &S::packing, &text::PackingOptions::n_samples,
          "Number of rows; it is an error if fewer are available."),
      key("seqlen", integer(1, 1 << 20), &S::packing, &text::PackingOptions::seqlen,
          "Tokens per row."),
      key("seed", seed(), &S::packing, &text::PackingOptions::seed,
          "Seed of the selection of rows."),
      key("packing", choice<text::Packing>({std::begin(packings), std::end(packings)}), &S::packing,
          &text::PackingOptions::packing,
          "`concat`: join documents and cut them into full rows; `truncate`: one row per document "
          "that is long enough; `pad`: one row per document, padded."),
      key("add_bos", boolean(), &S::packing, &text::PackingOptions::add_bos,
          "Begin every row with the tokens that the tokenizer puts first (BOS), but never twice."),
      key("parse_special", boolean(), &S::packing, &text::PackingOptions::parse_special,
          "Treat text that spells a special token as that token."),
      key("tokens", or_empty(path()), &S::tokens,
          "File of token ids (`.safetensors`), instead of `sources`. Its `attention_mask` marks "
          "padding."),
      key("experts",
          choice<S::Experts>({{"routed", S::Experts::kRouted}, {"all", S::Experts::kAll}}),
          &S::experts,
          "Tokens that the statistics of an expert are taken over. `routed`: those that the router "
          "sends to it; `all`: every token, which takes the time of running all experts on all of "
          "them. What the model computes is the same."),
      key("save_imatrix", or_empty(path()), &S::save_imatrix,
          "Output file for the measured importance matrix, for llama.cpp (`*.dat`: its older "
          "format, else GGUF). With `propagate_error` it describes the partly quantized model; "
          "`calque imatrix` measures the original."),
  };
  return s;
}

Problem add_builtin_texts(const YamlNode& word, Job& job) {
  if (!job::is_builtin(word.text))
    return {"E105", fmt::format("an entry of calibration.sources must be a section (path: FILE) or "
                                "the word {}, not {}",
                                job::kBuiltin, describe(word))};
  try {
    for (text::TextSource& source : job::builtin_sources(word.text))
      job.calibration.sources.push_back(std::move(source));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kConfig) throw;
    return {error.code(), error.what()};
  }
  return {};
}

// The keys for conversations; `chat` maps S* to its ChatSettings*.
template <typename S, typename Chat>
void add_chat_keys(Section& s, Chat chat) {
  s.keys.push_back(key_of<S>(
      "chat_template", or_empty(text()), [chat](auto* t) { return &chat(t)->name; },
      "Conversations: name of one of the model's chat templates; null: `default`, and for "
      "conversations with tools `tool_use` if there is one."));
  s.keys.push_back(key_of<S>(
      "chat_template_kwargs", variables(), [chat](auto* t) { return &chat(t)->variables; },
      "Conversations: more variables of the template, such as `{enable_thinking: false}`."));
  s.keys.push_back(key_of<S>(
      "chat_date", text(), [chat](auto* t) { return &chat(t)->date; },
      "Conversations: the day that the template takes for today. It is fixed so that a job makes "
      "the same text every day."));
  s.keys.push_back(key_of<S>(
      "chat_plain", boolean(), [chat](auto* t) { return &chat(t)->plain; },
      "Conversations that the model has no chat template for, or that its template refuses, become "
      "plain text (`User: ...`, `Assistant: ...`) and are counted. `false`: an error."));
}

Problem add_builtin_tasks(const YamlNode& word, Job& job) {
  if (word.text != job::kBuiltin)
    return {"E105", fmt::format("an entry of evaluate.tasks must be a section (file: FILE) or the "
                                "word {}, not {}",
                                job::kBuiltin, describe(word))};
  for (job::TaskSettings& task : job::builtin_tasks())
    in_evaluation(job, &EvaluationSettings::tasks)->push_back(std::move(task));
  return {};
}

Section sources_section() {
  using S = text::TextSource;
  Section s;
  s.path = "calibration.sources";
  s.doc =
      "Text files, optionally compressed (`.gz`, `.zst`). Rows with `messages` (and `tools`), or "
      "ShareGPT's `conversations`, become text by the model's own chat template. The word "
      "`builtin` as an entry means calque's own texts, `builtin:KIND` those of a kind: " +
      fmt::format("{}. ", fmt::join(job::builtin_kinds(), ", ")) +
      "Each entry without a weight has the same share: `sources: [{path: mine.txt, weight: 0.7}, "
      "builtin]`.";
  s.presence = Presence::kOptional;
  many(s, [](auto& job) { return &job.calibration.sources; });
  s.word = add_builtin_texts;
  s.keys = {
      required(key("path", path(), &S::path, "`.txt`, `.jsonl` or `.json` file.")),
      key("text_column", text(), &S::text_column,
          "`.jsonl`, `.json`: key that holds the text or the messages. Without it, `messages` or "
          "`conversations` are taken."),
      key("split_on", or_null(text()), &S::split_on,
          "`.txt`: separator between documents; null: the file is one document."),
      key("weight", number(0, 1e9), &S::weight,
          "Share of the rows; sources without a weight (0) share the rest equally."),
      key("may_run_out", boolean(), &S::may_run_out,
          "If the source has fewer rows than its share, the others give the rest. `false`: an "
          "error."),
  };
  add_chat_keys<S>(s, [](auto* source) { return &source->chat; });
  return s;
}

Section runtime_section() {
  using S = job::RuntimeSettings;
  Section s;
  s.path = "runtime";
  s.doc = "Devices, precision and limits. Results do not depend on `threads` or `max_ram`.";
  one(s, [](auto& job) { return &job.runtime; });
  s.keys = {
      key("threads", count_or_auto(), &S::threads,
          "Number of CPU threads; `auto`: all that the process may use."),
      key("forward_dtype", one_of({"auto", "float32", "bfloat16"}), &S::forward_dtype,
          "Precision of the calibration forward pass; `auto`: bfloat16 on GPUs and on processors "
          "that multiply it natively."),
      key("device", device(), &S::device,
          "Device of every stage that `stages` does not name. `auto`: a GPU if this machine has "
          "one that supports the stage, else `cpu`. `cuda` is `cuda:0`."),
      key("max_ram", byte_limit(), &S::max_ram,
          "Limit on the memory of the job; activations beyond it go to files in `offload_dir`."),
      key("offload_dir", or_empty(path()), &S::offload_dir,
          "Folder for activations that do not fit within `max_ram`; null: `run_dir`."),
      key("checkpoint", one_of({"auto", "block", "off"}), &S::checkpoint,
          "When finished blocks are saved in `run_dir`/state, for `calque resume`: after every "
          "block (`block`), as often as 3 % of the time allows (`auto`), or never (`off`)."),
  };
  return s;
}

Section stages_section() {
  using S = job::StageDevices;
  Section s;
  s.path = "runtime.stages";
  s.doc = "Devices of single stages; null: `runtime.device`.";
  one(s, [](auto& job) { return &job.runtime.stages; });
  s.keys = {
      key("forward", or_empty(device()), &S::forward,
          "Forward passes of calibration and evaluation."),
      key("statistics", or_empty(device()), &S::statistics,
          "Gram matrices of the linears' inputs."),
      key("transform", or_empty(device()), &S::transform,
          "Search for channel scales; correction of errors of earlier layers."),
      key("quantize", or_empty(device()), &S::quantize, "Rounding."),
      key("pack", or_empty(device()), &S::pack, "Packing codes into words."),
  };
  return s;
}

Section evaluate_section() {
  using S = EvaluationSettings;
  Section s;
  s.path = "evaluate";
  s.doc =
      "Measures the original and every artifact, read back from its files: perplexity and the KL "
      "divergence between them on `texts`, right answers on `tasks`. Without this section nothing "
      "is evaluated.";
  s.presence = Presence::kOptional;
  s.open = [](Job& job) -> void* { return &job.evaluate.emplace(); };
  s.instances = [](const Job& job) {
    return job.evaluate ? std::vector<const void*>{&*job.evaluate} : std::vector<const void*>{};
  };
  s.keys = {
      key("seqlen", integer(2, 1 << 20), &S::seqlen, "Tokens per window."),
      key("windows", integer(0), &S::windows,
          "Number of windows, from the start of the text; 0: all full windows."),
      key("dtype", one_of({"auto", "float32", "bfloat16"}), &S::dtype,
          "Precision of the forward pass."),
      key("add_bos", or_auto(boolean()), &S::add_bos,
          "Begin every window with a BOS, which is not scored, but never with two. `auto`: the "
          "tokens that the tokenizer puts first (often none); token ids are used as given."),
      key("noise_floor", boolean(), &S::noise_floor,
          "Also measure the original computed in bfloat16 against itself. Smaller divergences "
          "cannot be told apart."),
      key("kv_cache_seqlens", lengths(), &S::kv_cache_seqlens,
          "Window lengths for `kv_cache`; 0: the longest that text and model allow; `[]`: `seqlen` "
          "and 0. Each length reads about the same number of tokens."),
  };
  return s;
}

Section evaluate_texts_section() {
  using S = job::EvaluationText;
  Section s;
  s.path = "evaluate.texts";
  s.doc =
      "Texts to evaluate on. Each is measured separately, because the loss depends on the text. "
      "The first is the main one in results.";
  s.presence = Presence::kOptional;
  many(s, [](auto& job) { return in_evaluation(job, &EvaluationSettings::texts); });
  s.keys = {
      key("name", or_empty(text()), &S::name,
          "Name in results: letters, digits, `-` and `_`; null: the file's name without its "
          "extension."),
      key("text", or_empty(path()), &S::text,
          "Text file, read as one document. Conversations follow each other as the model's chat "
          "template writes them."),
      key("tokens", or_empty(path()), &S::tokens,
          "File of token ids (`.safetensors`), instead of `text`. Its `attention_mask` marks "
          "padding."),
      key("windows", or_null(integer(0)), &S::windows,
          "Number of windows of this text; null: `evaluate.windows`."),
  };
  add_chat_keys<S>(s, [](auto* text) { return &text->chat; });
  return s;
}

Section tasks_section() {
  using S = job::TaskSettings;
  using Format = text::QuestionFormat;
  Section s;
  s.path = "evaluate.tasks";
  s.doc =
      "Questions with right answers, asked of the original and of every artifact: the share of "
      "right answers, its difference from the original's with a standard error, and McNemar's "
      "exact test. A line of the file is `{\"question\": \"2 + 2 =\", \"choices\": [\"3\", \"4\"], "
      "\"answer\": 1}`, answered by the choice with the largest log-likelihood, or `{\"question\": "
      "\"2 + 2 =\", \"answer\": \"4\"}`, answered by the model's own words. The word `builtin` as "
      "an "
      "entry means calque's own tasks: `tasks: [builtin]`.";
  s.presence = Presence::kOptional;
  many(s, [](auto& job) { return in_evaluation(job, &EvaluationSettings::tasks); });
  s.word = add_builtin_tasks;
  s.keys = {
      key("name", or_empty(text()), &S::name,
          "Name in results: letters, digits, `-` and `_`; null: the file's name without its "
          "extension."),
      required(
          key("file", path(), &S::file, "`.jsonl` file, a question a line (also `.gz`, `.zst`).")),
      key("limit", integer(0), &S::limit, "Number of questions, from the first; 0: all."),
      key("metric", or_empty(one_of({"acc", "acc_norm", "acc_bytes"})), &S::metric,
          "Choices: the metric of short results. `acc`: the largest log-likelihood; `acc_norm`: "
          "the largest per character of the choice; `acc_bytes`: per byte; null: `acc_norm`. "
          "metrics.json has all."),
      key("before", or_empty(text()), &S::format, &Format::before,
          "Text in front of every question: instructions, solved examples."),
      key("delimiter", or_empty(text()), &S::format, &Format::delimiter,
          "Choices: text between question and choice; null: none. A chat template has its own."),
      key("template", boolean(), &S::format, &Format::chat_template,
          "Ask by the model's own chat template: a question is the user's message."),
      key("max_new_tokens", integer(1, 1 << 16), &S::max_new_tokens,
          "Answers in own words: the most tokens. Each takes a pass over all blocks with all "
          "questions, because keys and values are not kept."),
      key("stop", texts(), &S::stop,
          "Answers in own words: texts that end an answer, and are not part of it. The model's own "
          "end tokens always do."),
      key("answer_pattern", or_empty(text()), &S::answer_pattern,
          "Answers in own words: regular expression (PCRE2) of the answer in what the model "
          "writes: its first group, or else the whole match; null: everything. Compared without "
          "white space at the ends."),
      key("last_match", boolean(), &S::last_match,
          "The last match of `answer_pattern` is the answer, not the first."),
  };
  add_chat_keys<S>(s, [](auto* task) { return &task->format.chat; });
  return s;
}

Section kv_cache_section() {
  using S = job::KvCacheSettings;
  const std::vector<std::string> types = {"f16", "fp8", "q8_0", "q5_1", "q4_0"};
  Section s;
  s.path = "evaluate.kv_cache";
  s.doc =
      "Types of the key/value cache, each measured on the original and on every artifact: keys "
      "(after the rotary embedding) and values are rounded to the type before attention uses them. "
      "q8_0, q5_1 and q4_0 match llama.cpp bit for bit; fp8 is e4m3 with scale 1, as in vLLM "
      "without scales.";
  s.presence = Presence::kOptional;
  many(s, [](auto& job) { return in_evaluation(job, &EvaluationSettings::kv_cache); });
  s.keys = {
      key("name", or_empty(text()), &S::name, "Name in results; null: made from types and layers."),
      key("k_type", or_empty(one_of(types)), &S::k_type, "Type of keys; null: not rounded."),
      key("v_type", or_empty(one_of(types)), &S::v_type, "Type of values; null: not rounded."),
      key("layers", or_empty(text()), &S::layers,
          "Layers whose cache is rounded, such as `0-3,7`, counted from 0; null: all."),
  };
  return s;
}

Section publish_section() {
  using S = job::PublishSettings;
  Section s;
  s.path = "publish";
  s.doc = "Files added to an exported folder so that it can be uploaded as it is.";
  one(s, [](auto& job) { return &job.publish; });
  s.keys = {
      key("model_card", boolean(), &S::model_card,
          "Write `README.md` with measured results, how to run the model, and this job."),
      key("base_model", or_empty(text()), &S::base_model,
          "Name of the original model on a model hub, `org/name`; null: the folder's name."),
      key("license", text(), &S::license,
          "License identifier; `inherit`: as stated in the model's folder."),
      key("quantized_by", or_empty(text()), &S::quantized_by,
          "Name of the person or organization that quantized the model."),
      key("checksums", boolean(), &S::checksums, "Write `SHA256SUMS` of all files."),
  };
  return s;
}

}  // namespace

const Key* Section::find(std::string_view name) const {
  for (const Key& candidate : keys)
    if (candidate.name == name) return &candidate;
  return nullptr;
}

const std::vector<Section>& sections() {
  static const std::vector<Section> all = {
      top_level(),        model_section(),        calibration_section(),
      sources_section(),  quantization_section(), allocation_section(),
      awq_section(),      smoothquant_section(),  rules_section(),
      fallback_section(), export_section(),       runtime_section(),
      stages_section(),   evaluate_section(),     evaluate_texts_section(),
      tasks_section(),    kv_cache_section(),     publish_section()};
  return all;
}

const Section* find_section(std::string_view path) {
  for (const Section& section : sections())
    if (section.path == path) return &section;
  return nullptr;
}

std::string join_path(std::string_view section, std::string_view name) {
  return section.empty() ? std::string(name) : fmt::format("{}.{}", section, name);
}

std::vector<const Section*> children_of(const Section& section) {
  std::vector<const Section*> children;
  for (const Section& candidate : sections()) {
    if (candidate.path.empty()) continue;
    const std::size_t dot = candidate.path.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : candidate.path.substr(0, dot);
    if (parent == section.path) children.push_back(&candidate);
  }
  return children;
}

}  // namespace calque::config
