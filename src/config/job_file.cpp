#include "calque/config/job_file.h"

#include "config/diagnostics.h"
#include "config/job_reader.h"
#include "config/overrides.h"
#include "config/read_yaml_file.h"
#include "config/yaml_tree.h"

namespace calque::config {

job::Job load_job(const std::filesystem::path& file,
                       const std::vector<std::string>& overrides) {
  const std::string text = read_yaml_file(file, "job");
  Diagnostics diagnostics(file.string(), text, overrides);
  YamlNode root = parse_yaml(text, 0, diagnostics);
  diagnostics.throw_if_any();  // what follows a syntax error would only confuse
  for (std::size_t i = 0; i < overrides.size(); ++i)
    apply_override(root, overrides[i], static_cast<int>(i + 1), diagnostics);
  JobReader reader(std::filesystem::absolute(file).lexically_normal().parent_path(), diagnostics);
  job::Job job = reader.read(root);
  diagnostics.throw_if_any();
  return job;
}

}  // namespace calque::config
