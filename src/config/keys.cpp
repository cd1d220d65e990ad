#include "config/keys.h"

#include <fmt/format.h>

#include <type_traits>
#include <utility>

#include "config/codec.h"

namespace calque::config {
namespace {

using pipeline::CalibrationSettings;
using pipeline::EvaluationSettings;
using pipeline::Job;
using pipeline::ModelSettings;
using pipeline::QuantizationSettings;
using pipeline::RuntimeSettings;
using Presence = Section::Presence;

// `field`: S& -> V&. The default is what a new S holds.
template <typename S, typename V, typename Field>
Key key(std::string name, const Codec<V>& codec, Field field, std::string doc) {
  Key result;
  result.name = std::move(name);
  result.type = codec.type;
  result.doc = std::move(doc);
  result.default_value = codec.show(field(S{}));
  result.store = [codec, field](const YamlNode& node, const std::filesystem::path& folder,
                                void* target) {
    return codec.parse(node, folder, const_cast<V&>(field(*static_cast<const S*>(target))));
  };
  result.show = [codec, field](const void* target) {
    return codec.show(field(*static_cast<const S*>(target)));
  };
  return result;
}

Key required(Key key) {
  key.default_value.clear();
  return key;
}

Key with_default(Key key, std::string in_words) {
  key.default_value = std::move(in_words);
  return key;
}

template <typename S>
Key only_when(Key key, std::string when, bool (*applies)(const S&)) {
  key.applies_when = std::move(when);
  key.applies = [applies](const void* target) { return applies(*static_cast<const S*>(target)); };
  return key;
}

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

template <typename S>
std::vector<const void*> pointers_to(const std::vector<S>& items) {
  std::vector<const void*> pointers;
  for (const S& item : items) pointers.push_back(&item);
  return pointers;
}

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
  s.keys = {required(key<ModelSettings>(
      "path", path(), [](const ModelSettings& m) -> auto& { return m.path; },
      "Hugging Face folder: `config.json`, `*.safetensors`, tokenizer files."))};
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

Section quantization_section() {
  using S = QuantizationSettings;
  const std::vector<Choice<ScaleRule>> rules = {{"minmax", ScaleRule::kMinMax},
                                                {"full_range", ScaleRule::kFullRange},
                                                {"search", ScaleRule::kSearch}};
  Section s;
  s.path = "quantization";
  s.doc =
      "How values are chosen. `bits`, `group_size` and `sym` are for `gptq` exports; GGUF types "
      "bring their own.";
  s.open = [](Job& job) -> void* { return &job.quantization; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.quantization}; };
  s.keys = {
      key<S>(
          "method", one_of({"rtn", "gptq"}), [](const S& q) -> auto& { return q.method; },
          "`rtn`: round to nearest; `gptq`: round column by column and move each column's error "
          "onto the next."),
      key<S>(
          "bits", small_integer(2, 8), [](const S& q) -> auto& { return q.grid.bits; },
          "Bits of a code; formats hold some of these (gptq: 2, 3, 4, 8)."),
      key<S>(
          "group_size", group_size(), [](const S& q) -> auto& { return q.grid.group_size; },
          "Inputs that share a scale."),
      key<S>(
          "sym", boolean(), [](const S& q) -> auto& { return q.grid.sym; },
          "Symmetric: no zero points."),
      key<S>(
          "scale_rule", choice<ScaleRule>(rules), [](const S& q) -> auto& { return q.scale_rule; },
          "A group's scale: from its extremes (`minmax`), with the largest magnitude on the "
          "outermost code (`full_range`), or the best of candidates (`search`)."),
      key<S>(
          "act_order", boolean(), [](const S& q) -> auto& { return q.act_order; },
          "gptq: visit columns by falling activation; groups stay consecutive, so it costs "
          "nothing when the model is used."),
      key<S>(
          "damp_percent", number(0, 1), [](const S& q) -> auto& { return q.damp_percent; },
          "gptq: added to the Hessian's diagonal, as a share of its mean (0.01 is 1 %)."),
      key<S>(
          "damp_auto_increment", number(0, 1),
          [](const S& q) -> auto& { return q.damp_auto_increment; },
          "gptq: first increase of `damp_percent` when the Hessian is not positive definite, "
          "doubled each time; 0: no retries."),
      key<S>(
          "block_size", integer(1, 1 << 20), [](const S& q) -> auto& { return q.block_size; },
          "gptq: columns a block; speed and memory, not the format."),
      key<S>(
          "refine_passes", integer(0, 1000), [](const S& q) -> auto& { return q.refine_passes; },
          "gptq: passes over the codes and scales after rounding; each lowers the error or leaves "
          "it."),
      key<S>(
          "propagate_error", boolean(), [](const S& q) -> auto& { return q.propagate_error; },
          "Measure later layers behind the already quantized ones; false: behind the original "
          "ones."),
  };
  return s;
}

Section fallback_section() {
  using S = QuantizationSettings;
  Section s;
  s.path = "quantization.fallback";
  s.doc = "When gptq cannot use a matrix's statistics, the matrix is rounded by rtn.";
  s.open = [](Job& job) -> void* { return &job.quantization; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.quantization}; };
  s.keys = {key<S>(
      "max_modules", integer(0), [](const S& q) -> auto& { return q.fallback_max_modules; },
      "More matrices than this falling back fail the job.")};
  return s;
}

bool is_gptq(const artifact::ExportRequest& e) { return e.format == "gptq"; }
bool is_gguf(const artifact::ExportRequest& e) { return e.format == "gguf"; }

Section export_section() {
  using S = artifact::ExportRequest;
  Section s;
  s.path = "export";
  s.doc = "What is written. Exports that need the same rounding share one pass over the model.";
  s.presence = Presence::kRequired;
  s.list = true;
  s.open = [](Job& job) -> void* { return &job.exports.emplace_back(); };
  s.instances = [](const Job& job) { return pointers_to(job.exports); };
  const auto gptq_only = [](Key k) { return only_when<S>(std::move(k), "format: gptq", is_gptq); };
  const auto gguf_only = [](Key k) { return only_when<S>(std::move(k), "format: gguf", is_gguf); };
  s.keys = {
      required(key<S>(
          "format", one_of({"gptq", "gguf"}), [](const S& e) -> auto& { return e.format; },
          "Format of the artifact.")),
      required(key<S>(
          "path", path(), [](const S& e) -> auto& { return e.path; },
          "gptq: the folder; gguf: the file.")),
      key<S>(
          "overwrite", boolean(), [](const S& e) -> auto& { return e.overwrite; },
          "Replace what is there; false: what is there is an error."),
      gptq_only(key<S>(
          "checkpoint_format", one_of({"auto", "gptq", "gptq_v2"}),
          [](const S& e) -> auto& { return e.checkpoint_format; },
          "How zero points are stored; `auto`: gptq when symmetric, else gptq_v2.")),
      gptq_only(key<S>(
          "max_shard_size", byte_size(), [](const S& e) -> auto& { return e.max_shard_bytes; },
          "Largest weights file; more is split.")),
      gguf_only(key<S>(
          "type", text(), [](const S& e) -> auto& { return e.type; },
          "Type of the blocks' matrices: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F16, BF16, "
          "F32.")),
      gguf_only(key<S>(
          "embedding_type", text(), [](const S& e) -> auto& { return e.embedding_type; },
          "Type of the embedding, when `type` is quantized.")),
      gguf_only(key<S>(
          "output_type", text(), [](const S& e) -> auto& { return e.output_type; },
          "Type of the output head, when `type` is quantized.")),
      gguf_only(key<S>(
          "pre", text_or_null(), [](const S& e) -> auto& { return e.pre; },
          "Name of the pre-tokenizer (`tokenizer.ggml.pre`), if it is not found from "
          "the tokenizer's content.")),
  };
  return s;
}

Section runtime_section() {
  using S = RuntimeSettings;
  Section s;
  s.path = "runtime";
  s.doc = "Where and how the work is done. Results do not depend on `threads`.";
  s.open = [](Job& job) -> void* { return &job.runtime; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.runtime}; };
  s.keys = {
      key<S>(
          "threads", count_or_auto(), [](const S& r) -> auto& { return r.threads; },
          "CPU threads; `auto`: all that the process may use."),
      key<S>(
          "forward_dtype", one_of({"auto", "float32", "bfloat16"}),
          [](const S& r) -> auto& { return r.forward_dtype; },
          "Precision of the calibration forward pass; `auto`: bfloat16 where the processor "
          "multiplies it natively."),
      key<S>(
          "device", device(), [](const S& r) -> auto& { return r.device; },
          "Where statistics and rounding are computed."),
  };
  return s;
}

Section evaluate_section() {
  using S = EvaluationSettings;
  Section s;
  s.path = "evaluate";
  s.doc =
      "Perplexity of the original and of every artifact, read back from its files, and the KL "
      "divergence between them. Give `text` or `tokens`; without this section nothing is "
      "evaluated.";
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
      top_level(),       model_section(),        calibration_section(),
      sources_section(), quantization_section(), fallback_section(),
      export_section(),  runtime_section(),      evaluate_section()};
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

bool needs_calibration(std::string_view method) { return method != "rtn"; }

}  // namespace calque::config
