#include "calque/formats/side_files.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>

#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 13> kOtherWeights = {
    ".safetensors", ".bin", ".pt",  ".pth", ".ckpt", ".gguf",   ".onnx",
    ".onnx_data",   ".h5",  ".npz", ".npy", ".dat",  ".msgpack"};
// The settings of an earlier quantization; loaders would apply them to the new one.
constexpr std::array<std::string_view, 6> kEarlierSettings = {
    "quantize_config.json",     "quant_config.json", "hf_quant_config.json",
    "quantization_config.json", "recipe.yaml",       "recipe.yml"};
constexpr const char* kTemplates = "additional_chat_templates";

bool is_replaced(const std::string& name) {
  return name.starts_with(".") || name.starts_with("README") || name == "config.json" ||
         name == "SHA256SUMS" || name.ends_with(".partial");
}

bool is_read_as_weights(const std::string& name) {
  return name.ends_with(".index.json") ||
         (name.starts_with("model") && name.ends_with(".safetensors"));
}

bool is_left_out(const std::string& name) {
  return std::find(kEarlierSettings.begin(), kEarlierSettings.end(), name) !=
             kEarlierSettings.end() ||
         std::any_of(kOtherWeights.begin(), kOtherWeights.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::error_code failure;
  std::vector<fs::directory_entry> entries;
  for (fs::directory_iterator at(folder, failure), end; !failure && at != end;
       at.increment(failure))
    entries.push_back(*at);
  if (failure)
    throw Error(ErrorKind::kInput, "E173",
                folder.string() + ": cannot list the folder: " + failure.message());
  return entries;
}

void add_templates(const fs::path& model_folder, SideFiles& files) {
  for (const fs::directory_entry& entry : entries_of(model_folder / kTemplates)) {
    const fs::path relative = fs::path(kTemplates) / entry.path().filename();
    if (entry.path().extension() == ".jinja")
      files.copied.push_back(relative);
    else
      files.left_out.push_back(relative.string());
  }
}

}  // namespace

SideFiles side_files(const fs::path& model_folder) {
  SideFiles files;
  for (const fs::directory_entry& entry : entries_of(model_folder)) {
    const std::string name = entry.path().filename().string();
    std::error_code none;
    if (is_replaced(name) || is_read_as_weights(name)) continue;
    if (entry.is_directory(none) && name == kTemplates)
      add_templates(model_folder, files);
    else if (entry.is_directory(none))
      files.left_out.push_back(name + "/");
    else if (is_left_out(name))
      files.left_out.push_back(name);
    else
      files.copied.emplace_back(name);
  }
  for (const fs::path& file : files.copied) io::refuse_placeholder(model_folder / file);
  std::sort(files.copied.begin(), files.copied.end());
  std::sort(files.left_out.begin(), files.left_out.end());
  return files;
}

void copy_side_files(const fs::path& model_folder, const fs::path& to) {
  for (const fs::path& file : side_files(model_folder).copied)
    io::copy_file(model_folder / file, to / file);
}

}  // namespace calque::formats
