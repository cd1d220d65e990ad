#include <nlohmann/json.hpp>

#include "formats/folder_contents.h"

namespace calque::formats {

// formats_gptq_awq.md section 3.2. Loaders look for the names of the list as parts of module paths,
// so it holds full paths: "gate" alone would hit gate_proj, too.
std::string awq_settings_json(const FolderContents& contents) {
  nlohmann::ordered_json json = {{"quant_method", "awq"},
                                 {"bits", contents.usual.bits},
                                 {"group_size", contents.usual.group_size},
                                 {"zero_point", true},
                                 {"version", "gemm"},
                                 {"modules_to_not_convert", contents.untouched()}};
  if (contents.lm_head) json["lm_head"] = true;
  return json.dump();
}

}  // namespace calque::formats
