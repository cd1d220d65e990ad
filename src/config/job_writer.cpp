#include <fmt/format.h>

#include <string>

#include "calque/config/job_file.h"
#include "calque/config/sweep_file.h"
#include "config/keys.h"

namespace calque::config {
namespace {

std::string last_name(const Section& section) {
  return section.path.substr(section.path.rfind('.') + 1);
}

// Whether a resolved job has the key.
bool belongs(const Key& key, const void* target) {
  return !key.shorthand && (!key.applies || key.applies(target));
}

std::string keys_yaml(const Section& section, const void* target, const std::string& indent) {
  std::string yaml;
  for (const Key& key : section.keys)
    if (belongs(key, target)) yaml += fmt::format("{}{}: {}\n", indent, key.name, key.show(target));
  return yaml;
}

std::string list_yaml(const Section& section, const job::Job& job, const std::string& indent) {
  std::string yaml;
  for (const void* item : section.instances(job)) {
    std::string entry = keys_yaml(section, item, indent + "    ");
    entry[indent.size() + 2] = '-';
    yaml += entry;
  }
  return yaml;
}

std::string section_yaml(const Section& section, const job::Job& job,
                         const std::string& indent) {
  const auto instances = section.instances(job);
  const std::string head = indent + last_name(section) + ":";
  if (instances.empty()) return head + (section.list ? " []\n" : " null\n");
  if (section.list) return head + "\n" + list_yaml(section, job, indent);
  std::string yaml = head + "\n" + keys_yaml(section, instances.front(), indent + "  ");
  for (const Section* child : children_of(section))
    yaml += section_yaml(*child, job, indent + "  ");
  return yaml;
}

std::string default_cell(const Key& key) {
  if (key.required()) return "required";
  return key.default_value.front() == '`' ? key.default_value
                                          : fmt::format("`{}`", key.default_value);
}

std::string heading(const Section& section) {
  if (section.path.empty()) return "### Top level\n\n";
  const char* suffix = section.list ? " (list)" : "";
  return fmt::format("### `{}`{}\n\n{}\n\n", section.path, suffix, section.doc);
}

}  // namespace

std::string resolved_yaml(const job::Job& job) {
  const Section& top = *find_section("");
  std::string yaml = keys_yaml(top, &job, "");
  for (const Section* child : children_of(top)) yaml += section_yaml(*child, job, "");
  return yaml;
}

std::vector<std::pair<std::string, std::string>> settings_of(const job::Job& job) {
  std::vector<std::pair<std::string, std::string>> settings;
  for (const Section& section : sections()) {
    const auto instances = section.instances(job);
    for (std::size_t i = 0; i < instances.size(); ++i) {
      const std::string path =
          section.list ? join_path(section.path, std::to_string(i)) : section.path;
      for (const Key& key : section.keys)
        if (belongs(key, instances[i]))
          settings.emplace_back(join_path(path, key.name), key.show(instances[i]));
    }
  }
  return settings;
}

std::string key_reference() {
  std::string page;
  for (const Section& section : sections()) {
    if (!page.empty()) page += '\n';
    page += heading(section);
    page += "| Key | Value | Default | Meaning |\n|---|---|---|---|\n";
    for (const Key& key : section.keys) {
      if (!key.documented) continue;
      const std::string when =
          key.applies_when.empty() ? "" : fmt::format("With `{}`: ", key.applies_when);
      page += fmt::format("| `{}` | {} | {} | {}{} |\n", key.name, key.type, default_cell(key),
                          when, key.doc);
    }
  }
  return page + "\n" + sweep_key_reference();
}

}  // namespace calque::config
