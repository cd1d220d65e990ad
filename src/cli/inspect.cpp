#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/io/json.h"
#include "cli/commands.h"
#include "cli/tensor_facts.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;
using io::Json;

struct InspectArguments {
  std::string path;
  std::string tensor;
  bool all = false;
  bool json = false;
};

// Totals of all tensors stored in the same way.
struct TypeTotals {
  std::size_t tensors = 0;
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;

  double bits_per_weight() const {
    return elements == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(elements);
  }
};

std::uint64_t elements_of(const formats::StoredTensor& tensor) {
  std::uint64_t elements = 1;
  for (const Index n : tensor.shape) elements *= static_cast<std::uint64_t>(n);
  return elements;
}

std::map<std::string, TypeTotals> totals_by_type(
    const std::vector<formats::StoredTensor>& tensors) {
  std::map<std::string, TypeTotals> totals;
  for (const formats::StoredTensor& tensor : tensors) {
    TypeTotals& type = totals[tensor.stored_as];
    ++type.tensors;
    type.elements += elements_of(tensor);
    type.bytes += tensor.bytes;
  }
  return totals;
}

std::string shape_text(const std::vector<Index>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string summary_text(const formats::ArtifactReader& reader) {
  const model::ModelConfig& c = reader.config();
  return fmt::format(
      "{}: {}, {} layers, hidden {}, vocabulary {}\n"
      "{} on disk, {:.3f} bits/weight (everything counted)\n",
      reader.format(), printable(c.architecture), c.num_layers, c.hidden_size, c.vocab_size,
      bytes_text(reader.file_bytes()), reader.bits_per_weight());
}

std::string types_text(const std::vector<formats::StoredTensor>& tensors) {
  TextTable table(
      {{"stored as", Align::kLeft}, {"tensors"}, {"weights"}, {"bytes"}, {"bits/weight"}});
  for (const auto& [name, type] : totals_by_type(tensors))
    table.add({printable(name), fmt::format("{}", type.tensors), fmt::format("{}", type.elements),
               fmt::format("{}", type.bytes), fmt::format("{:.3f}", type.bits_per_weight())});
  return table.text();
}

std::string tensors_text(const std::vector<formats::StoredTensor>& tensors) {
  TextTable table({{"tensor", Align::kLeft}, {"stored as", Align::kLeft}, {"shape"}, {"bytes"}});
  for (const formats::StoredTensor& tensor : tensors)
    table.add({printable(tensor.name), printable(tensor.stored_as), shape_text(tensor.shape),
               fmt::format("{}", tensor.bytes)});
  return table.text();
}

Json stored_json(const formats::StoredTensor& tensor) {
  return {{"name", tensor.name},
          {"stored_as", tensor.stored_as},
          {"shape", tensor.shape},
          {"bytes", tensor.bytes}};
}

Json artifact_json(const formats::ArtifactReader& reader,
                   const std::vector<formats::StoredTensor>& tensors) {
  const model::ModelConfig& c = reader.config();
  Json types = Json::array();
  for (const auto& [name, type] : totals_by_type(tensors))
    types.push_back({{"stored_as", name},
                     {"tensors", type.tensors},
                     {"weights", type.elements},
                     {"bytes", type.bytes},
                     {"bits_per_weight", type.bits_per_weight()}});
  Json list = Json::array();
  for (const formats::StoredTensor& tensor : tensors) list.push_back(stored_json(tensor));
  return {{"format", reader.format()},
          {"architecture", c.architecture},
          {"layers", c.num_layers},
          {"hidden_size", c.hidden_size},
          {"vocab_size", c.vocab_size},
          {"file_bytes", reader.file_bytes()},
          {"bits_per_weight", reader.bits_per_weight()},
          {"types", types},
          {"tensors", list}};
}

const formats::StoredTensor& tensor_named(const std::vector<formats::StoredTensor>& tensors,
                                          const std::string& name) {
  std::vector<std::string> similar;
  for (const formats::StoredTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
    if (tensor.name.find(name) != std::string::npos && similar.size() < 5)
      similar.push_back(tensor.name);
  }
  throw Error(ErrorKind::kConfig, "E171",
              similar.empty()
                  ? fmt::format("no tensor '{}'; --tensors lists all {}", name, tensors.size())
                  : fmt::format("no tensor '{}'; some that contain it: {}", name,
                                fmt::join(similar, ", ")));
}

Json tensor_json(const formats::ArtifactReader& reader, const formats::StoredTensor& tensor) {
  const ValueFacts values = facts_of(reader.load(tensor.name));
  Json json = stored_json(tensor);
  json["min"] = values.min;
  json["max"] = values.max;
  json["mean"] = values.mean;
  json["rms"] = values.rms;
  json["zeros"] = values.zeros;
  json["nonfinite"] = values.nonfinite;
  if (const auto quantized = reader.quantized(tensor.name)) {
    json["grid"] = quantized->grid.description();
    if (std::holds_alternative<quant::BlockRows>(quantized->stored)) return json;
    const CodeFacts codes = facts_of(*quantized);
    json["smallest_scale"] = codes.smallest_scale;
    json["largest_scale"] = codes.largest_scale;
    json["reordered_groups"] = codes.reordered_groups;
    json["code_counts"] = codes.counts;
  }
  return json;
}

// The same facts, one per line.
std::string tensor_text(const Json& facts) {
  std::string text;
  for (const auto& [key, value] : facts.members())
    text += fmt::format("{:<17} {}\n", key,
                        value.is_string() ? printable(value.string()) : value.dump());
  return text;
}

// Replaces bytes that are not UTF-8: names come from untrusted files.
void print_json(const Json& json) { fmt::print("{}\n", json.dump(2)); }

void inspect(const InspectArguments& arguments) {
  const auto reader = formats::open_artifact(arguments.path);
  const std::vector<formats::StoredTensor> tensors = reader->tensors();
  if (!arguments.tensor.empty()) {
    const Json facts = tensor_json(*reader, tensor_named(tensors, arguments.tensor));
    arguments.json ? print_json(facts) : fmt::print("{}", tensor_text(facts));
  } else if (arguments.json) {
    print_json(artifact_json(*reader, tensors));
  } else {
    fmt::print("{}\n{}", summary_text(*reader), types_text(tensors));
    if (arguments.all) fmt::print("\n{}", tensors_text(tensors));
  }
}

}  // namespace

Command inspect_command(const CommandContext&) {
  const auto a = std::make_shared<InspectArguments>();
  return {"inspect",
          "Show the contents of a checkpoint, a quantized folder or a GGUF file.",
          {Option{"path", &a->path, "Folder or GGUF file."}.required().path(),
           {"--tensor", &a->tensor,
            "Show values, grid and codes of one tensor, given by its Hugging Face name."},
           {"--tensors", &a->all, "List every tensor."},
           json_option(a->json, "Print JSON that includes every tensor.")},
          "  calque inspect out/demo-Q4_0.gguf --tensors\n"
          "  calque inspect out/demo-GPTQ-Int4 --tensor model.layers.0.self_attn.q_proj.weight",
          [a] { inspect(*a); }};
}

}  // namespace calque::cli
