#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/formats/checkpoint_config.h"
#include "calque/formats/conversion.h"
#include "calque/formats/reader.h"
#include "calque/formats/side_files.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/model/expert_stacks.h"
#include "calque/model/family.h"
#include "calque/text/tokenizer.h"
#include "calque/text/vocabulary.h"
#include "cli/commands.h"

namespace calque::cli {
namespace {

namespace fs = std::filesystem;

struct DequantizeArguments {
  std::string artifact;
  std::string out;
  std::string dtype = "float16";
  bool overwrite = false;
};

DType dtype_of(const std::string& name) {
  if (name == "float32") return DType::kF32;
  return name == "bfloat16" ? DType::kBF16 : DType::kF16;
}

// The tensors of a folder that belong to other parts of the model.
void carry_stored(const formats::ArtifactReader& reader, model::FamilySpec& family) {
  std::set<std::string> known;
  for (const model::TensorSpec& tensor : family.tensors()) known.insert(tensor.name);
  for (const formats::StoredTensor& tensor : reader.tensors())
    if (!known.contains(tensor.name) && !family.ignores(tensor.name))
      family.carried.push_back({.name = tensor.name, .shape = tensor.shape});
}

std::vector<model::TensorSpec> all_tensors(const model::FamilySpec& family) {
  std::vector<model::TensorSpec> tensors = family.tensors();
  tensors.insert(tensors.end(), family.carried.begin(), family.carried.end());
  return tensors;
}

// The tensors of the folder: those of the family, experts in stacks where the class has them so.
struct Contents {
  std::vector<model::TensorSpec> tensors;
  model::StackedExperts layout = model::StackedExperts::kNone;
  std::vector<model::ExpertStack> stacks;

  Contents(const model::FamilySpec& family, model::StackedExperts as)
      : tensors(all_tensors(family)), layout(as), stacks(model::expert_stacks(family, as)) {
    std::set<std::string_view> stacked;
    for (const model::ExpertStack& stack : stacks)
      for (const std::vector<std::string>& expert : stack.parts)
        stacked.insert(expert.begin(), expert.end());
    std::erase_if(tensors,
                  [&](const model::TensorSpec& tensor) { return stacked.contains(tensor.name); });
  }

  std::vector<io::TensorDeclaration> declarations(DType dtype) const {
    std::vector<io::TensorDeclaration> result;
    for (const model::TensorSpec& tensor : tensors)
      result.push_back({tensor.name, dtype, tensor.shape});
    for (const model::ExpertStack& stack : stacks)
      result.push_back({stack.name, dtype, stack.shape});
    return result;
  }
};

void check_size(const Matrix<float>& values, const model::TensorSpec& tensor) {
  Index expected = 1;
  for (const Index n : tensor.shape) expected *= n;
  if (values.size() != expected)
    throw Error(ErrorKind::kInput, "E163",
                fmt::format("tensor '{}' has {} values; its place in the model has {}", tensor.name,
                            values.size(), expected));
}

std::vector<std::byte> bytes_of(const std::string& name, const Matrix<float>& values, DType dtype) {
  model::require_finite(name, values);
  const auto count = static_cast<std::size_t>(values.size());
  std::vector<std::byte> bytes(count * size_of(dtype));
  convert_from_float(values.data(), dtype, count, bytes.data());
  formats::require_stored(name, values, dtype, bytes, "Use --dtype bfloat16 or float32");
  return bytes;
}

void write_tensors(const formats::ArtifactReader& reader, const fs::path& folder, DType dtype,
                   bool carries, model::StackedExperts layout) {
  model::FamilySpec family = model::family_of(reader.config());
  if (carries) carry_stored(reader, family);
  const Contents contents(family, layout);
  io::SafetensorsWriter writer(folder, contents.declarations(dtype));
  for (const model::TensorSpec& tensor : contents.tensors) {
    const Matrix<float> values = reader.load(tensor.name);
    check_size(values, tensor);
    writer.write(tensor.name, bytes_of(tensor.name, values, dtype));
  }
  for (const model::ExpertStack& stack : contents.stacks) {
    std::vector<std::byte> all;
    for (Index e = 0; e < stack.shape[0]; ++e) {
      const std::vector<std::byte> bytes =
          bytes_of(stack.name, model::stacked_expert(stack, e, layout, reader), dtype);
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    writer.write(stack.name, all);
  }
  writer.finish();
}

// A tokenizer that cannot be written is left out with a note: weights and config.json are worth
// having without it.
void write_tokenizer(const fs::path& source, const model::ModelConfig& config,
                     const fs::path& folder) {
  try {
    if (!text::has_tokenizer(source)) return;
    for (const auto& [name, contents] :
         text::tokenizer_files(text::load_vocabulary(source, config.vocab_size),
                               source.filename().string(), config.max_positions))
      io::write_file(folder / name, contents);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kInput) throw;
    fmt::print(stderr, "note: no tokenizer files are written: {}\n", error.what());
  }
}

std::string config_json(const fs::path& source, const formats::ArtifactReader& reader,
                        const std::string& dtype) {
  const fs::path config = source / "config.json";
  if (!fs::is_directory(source)) return formats::generated_config_json(reader.config(), dtype);
  return formats::plain_config_json(io::read_file(config), dtype, config.string(),
                                    !reader.config().tie_word_embeddings);
}

void write_side_files(const fs::path& source, const formats::ArtifactReader& reader,
                      const fs::path& folder) {
  if (fs::is_directory(source))
    formats::copy_side_files(source, folder);
  else
    write_tokenizer(source, reader.config(), folder);
}

// Refuses an output folder that would replace the folder being read.
void check_not_the_source(const fs::path& source, const fs::path& out) {
  std::error_code ignored;
  if (fs::equivalent(source, out, ignored))
    throw Error(
        ErrorKind::kConfig, "E172",
        fmt::format("--out '{}' is the artifact itself; choose another folder", out.string()));
}

void dequantize(const DequantizeArguments& arguments) {
  const auto reader = formats::open_artifact(arguments.artifact);
  check_not_the_source(arguments.artifact, arguments.out);
  io::AtomicFolder folder(arguments.out, arguments.overwrite);
  const std::string config = config_json(arguments.artifact, *reader, arguments.dtype);
  write_tensors(*reader, folder.staging(), dtype_of(arguments.dtype),
                fs::is_directory(arguments.artifact),
                model::parse_config(config, "config.json").stacked_experts);
  io::write_file(folder.staging() / "config.json", config);
  write_side_files(arguments.artifact, *reader, folder.staging());
  folder.commit();
  fmt::print("{}\n", arguments.out);
}

}  // namespace

Command dequantize_command(const CommandContext&) {
  const auto a = std::make_shared<DequantizeArguments>();
  return {"dequantize",
          "Write an artifact as a plain Hugging Face checkpoint.",
          {Option{"artifact", &a->artifact, "Quantized folder or GGUF file."}.required().path(),
           Option{"--out", &a->out, "Output folder."}.required().folder(),
           Option{"--dtype", &a->dtype, "Data type of the weights."}.among(
               {"float16", "bfloat16", "float32"}),
           {"--overwrite", &a->overwrite, "Replace the folder if it exists."}},
          "  calque dequantize out/demo-Q4_0.gguf --out out/demo-Q4_0-plain --dtype float32",
          [a] { dequantize(*a); }};
}

}  // namespace calque::cli
