#include "config/sections.h"

namespace calque::config {

using job::CalibrationSettings;
using job::EvaluationSettings;
using job::Job;
using job::ModelSettings;
using Presence = Section::Presence;

namespace {

// The number of the file's grammar; it is not part of the job.
Key version_key() {
  Key result;
  result.name = "version";
  result.type = "1";
  result.doc = "Version of the job file's format.";
  result.store = [](const YamlNode& node, const std::filesystem::path&, void*) -> Problem {
    if (node.kind == YamlNode::Kind::kScalar && !node.quoted && node.text == "1") return {};
    return {"E110", fmt::format("must be 1, the only version there is, not {}", describe(node))};
  };
  result.show = [](const void*) { return "1"; };
  return result;
}

}  // namespace

Section top_level() {
  Section s;
  s.doc = "Top level.";
  s.open = [](Job& job) -> void* { return &job; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job}; };
  s.keys = {
      version_key(),
      with_default(key<Job>(
                       "name", folder_name(), [](const Job& j) -> auto& { return j.name; },
                       "Name of the job, in reports."),
                   "`<model folder>-<method>-<bits>bit`"),
      with_default(key<Job>(
                       "run_dir", path(), [](const Job& j) -> auto& { return j.run_dir; },
                       "Folder for the record of the run: `job.resolved.yaml`, "
                       "`calibration_manifest.json`, `modules.csv`, `log.jsonl`, "
                       "`metrics.json`."),
                   "`runs/<name>`"),
  };
  return s;
}

Section model_section() {
  Section s;
  s.path = "model";
  s.doc = "What is quantized.";
  s.presence = Presence::kRequired;
  s.open = [](Job& job) -> void* { return &job.model; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.model}; };
  s.keys = {
      required(key<ModelSettings>(
          "path", path(), [](const ModelSettings& m) -> auto& { return m.path; },
          "Hugging Face folder: `config.json`, `*.safetensors`, tokenizer files; or a GGUF file, "
          "for exports to GGUF.")),
      key<ModelSettings>(
          "allow_requantize", boolean(),
          [](const ModelSettings& m) -> auto& { return m.allow_requantize; },
          "Take a GGUF file that is quantized already: what it lost stays lost."),
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
      "What the model reads while its linears' inputs are measured. Give `sources` or `tokens`; "
      "method `rtn` needs neither.";
  s.open = [](Job& job) -> void* { return &job.calibration; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.calibration}; };
  s.keys = {
      key<S>(
          "n_samples", integer(1), [](const S& c) -> auto& { return c.packing.n_samples; },
          "Rows, exactly: fewer available is an error."),
      key<S>(
          "seqlen", integer(1, 1 << 20), [](const S& c) -> auto& { return c.packing.seqlen; },
          "Tokens a row."),
      key<S>(
          "seed", seed(), [](const S& c) -> auto& { return c.packing.seed; },
          "Decides which rows of the text are taken."),
      key<S>(
          "packing", choice<text::Packing>({std::begin(packings), std::end(packings)}),
          [](const S& c) -> auto& { return c.packing.packing; },
          "`concat`: documents joined and cut into full rows; `truncate`: one row a document "
          "that is long enough; `pad`: one row a document."),
      key<S>(
          "add_bos", boolean(), [](const S& c) -> auto& { return c.packing.add_bos; },
          "Begin every row with what the tokenizer puts first (BOS); never twice."),
      key<S>(
          "parse_special", boolean(), [](const S& c) -> auto& { return c.packing.parse_special; },
          "Text that spells a special token becomes that token."),
      key<S>(
          "tokens", path_or_null(), [](const S& c) -> auto& { return c.tokens; },
          "Token ids made elsewhere (`.safetensors` or `.npy`), instead of `sources`."),
      key<S>(
          "save_imatrix", path_or_null(), [](const S& c) -> auto& { return c.save_imatrix; },
          "File for what is measured, as llama.cpp's importance matrix (`*.dat`: its older format, "
          "else GGUF). With `propagate_error` these are inputs of the model as quantized so far; "
          "`calque imatrix` measures the original's."),
  };
  return s;
}

Section sources_section() {
  using S = text::TextSource;
  Section s;
  s.path = "calibration.sources";
  s.doc = "Text files, each also compressed (`.gz`, `.zst`).";
  s.presence = Presence::kOptional;
  s.list = true;
  s.open = [](Job& job) -> void* { return &job.calibration.sources.emplace_back(); };
  s.instances = [](const Job& job) { return pointers_to(job.calibration.sources); };
  s.keys = {
      required(key<S>(
          "path", path(), [](const S& t) -> auto& { return t.path; }, "`.txt` or `.jsonl` file.")),
      key<S>(
          "text_column", text(), [](const S& t) -> auto& { return t.text_column; },
          "`.jsonl`: the key that holds the text."),
      key<S>(
          "split_on", optional_text(), [](const S& t) -> auto& { return t.split_on; },
          "`.txt`: what separates documents; null: the file is one document."),
      key<S>(
          "weight", number(0, 1e9), [](const S& t) -> auto& { return t.weight; },
          "Share of the rows; sources without a weight (0) share the rest equally."),
  };
  return s;
}

Section evaluate_section() {
  using S = EvaluationSettings;
  Section s;
  s.path = "evaluate";
  s.doc =
      "Perplexity of the original and of every artifact, read back from its files, and the KL "
      "divergence between them. Give `text`, `tokens` or `texts`; without this section "
      "nothing is evaluated.";
  s.presence = Presence::kOptional;
  s.open = [](Job& job) -> void* { return &job.evaluate.emplace(); };
  s.instances = [](const Job& job) {
    return job.evaluate ? std::vector<const void*>{&*job.evaluate} : std::vector<const void*>{};
  };
  s.keys = {
      key<S>(
          "text", path_or_null(), [](const S& e) -> auto& { return e.text; },
          "Text file, read as one document."),
      key<S>(
          "tokens", path_or_null(), [](const S& e) -> auto& { return e.tokens; },
          "Token ids made elsewhere (`.safetensors` or `.npy`), instead of `text`."),
      key<S>(
          "seqlen", integer(2, 1 << 20), [](const S& e) -> auto& { return e.seqlen; },
          "Tokens a window."),
      key<S>(
          "windows", integer(0), [](const S& e) -> auto& { return e.windows; },
          "Windows from the start of the text; 0: all full ones."),
      key<S>(
          "dtype", one_of({"auto", "float32", "bfloat16"}),
          [](const S& e) -> auto& { return e.dtype; }, "Precision of the forward pass."),
      key<S>(
          "noise_floor", boolean(), [](const S& e) -> auto& { return e.noise_floor; },
          "Measure the original once more, computed in bfloat16, against itself: below that "
          "divergence nobody can tell models apart."),
      key<S>(
          "kv_cache_seqlens", lengths(), [](const S& e) -> auto& { return e.kv_cache_seqlens; },
          "Lengths of the windows that `kv_cache` is measured in; 0: the longest that text and "
          "model allow; `[]`: `seqlen` and 0. About as many tokens are read at each."),
  };
  return s;
}

Section evaluate_texts_section() {
  using S = job::EvaluationText;
  Section s;
  s.path = "evaluate.texts";
  s.doc =
      "Several texts, each measured by itself, instead of `text` or `tokens`: what a model loses "
      "depends on what it reads. The first is the one that results show first.";
  s.presence = Presence::kOptional;
  s.list = true;
  s.open = [](Job& job) -> void* { return &job.evaluate->texts.emplace_back(); };
  s.instances = [](const Job& job) {
    return job.evaluate ? pointers_to(job.evaluate->texts) : std::vector<const void*>{};
  };
  s.keys = {
      key<S>(
          "name", text_or_null(), [](const S& t) -> auto& { return t.name; },
          "Letters, digits, `-` and `_`; null: the file's name without its ending."),
      key<S>(
          "text", path_or_null(), [](const S& t) -> auto& { return t.text; },
          "Text file, read as one document."),
      key<S>(
          "tokens", path_or_null(), [](const S& t) -> auto& { return t.tokens; },
          "Token ids made elsewhere (`.safetensors` or `.npy`), instead of `text`."),
      key<S>(
          "windows", or_null(integer(0)), [](const S& t) -> auto& { return t.windows; },
          "Windows of this text; null: as many as `evaluate.windows` says."),
  };
  return s;
}

Section kv_cache_section() {
  using S = job::KvCacheSettings;
  const std::vector<std::string> types = {"f16", "fp8", "q8_0", "q5_1", "q4_0"};
  Section s;
  s.path = "evaluate.kv_cache";
  s.doc =
      "Precisions of the key/value cache, each measured on the original and on every artifact: "
      "keys (after the rotary embedding) and values are rounded and back before attention uses "
      "them. q8_0, q5_1 and q4_0 are llama.cpp's, bit for bit; fp8 is e4m3 with scale 1, vLLM's "
      "without scales.";
  s.presence = Presence::kOptional;
  s.list = true;
  s.open = [](Job& job) -> void* { return &job.evaluate->kv_cache.emplace_back(); };
  s.instances = [](const Job& job) {
    return job.evaluate ? pointers_to(job.evaluate->kv_cache) : std::vector<const void*>{};
  };
  s.keys = {
      key<S>(
          "name", text_or_null(), [](const S& c) -> auto& { return c.name; },
          "In results; null: made from the types and layers."),
      key<S>(
          "type", one_of_or_null(types), [](const S& c) -> auto& { return c.type; },
          "Of keys and values; null: `k_type` and `v_type` say."),
      key<S>(
          "k_type", one_of_or_null(types), [](const S& c) -> auto& { return c.k_type; },
          "Of keys alone; null: as computed."),
      key<S>(
          "v_type", one_of_or_null(types), [](const S& c) -> auto& { return c.v_type; },
          "Of values alone; null: as computed."),
      key<S>(
          "layers", text_or_null(), [](const S& c) -> auto& { return c.layers; },
          "Layers that are rounded, such as `0-3,7`, from 0; null: all."),
  };
  return s;
}

}  // namespace calque::config
