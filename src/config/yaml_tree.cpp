#include "config/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "calque/core/error.h"

namespace calque::config {
namespace {

using Kind = YamlNode::Kind;

constexpr std::uintmax_t kLargestFile = 1 << 20;

// Builds the tree from yaml-cpp's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(int source, Diagnostics& diagnostics) : source_(source), diagnostics_(diagnostics) {}

  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 2)
      refuse(mark, "a job file is one YAML document; remove '---' and what follows");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check_plain(mark, "?", anchor);
    add(make(Kind::kNull, mark));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases (*name) are not supported; write the value out");
    add(make(Kind::kNull, mark));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_plain(mark, tag, anchor);
    YamlNode node = make(Kind::kScalar, mark);
    node.text = value;
    node.quoted = tag == "!";  // yaml-cpp: "?" for plain scalars, "!" for quoted ones
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    check_plain(mark, tag, anchor);
    open_.push_back({make(Kind::kList, mark), {}, false});
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    check_plain(mark, tag, anchor);
    open_.push_back({make(Kind::kMap, mark), {}, false});
  }
  void OnMapEnd() override { close(); }

  int documents() const { return documents_; }

 private:
  struct Open {
    YamlNode node;
    YamlNode key;  // key of a map whose value has not been read yet
    bool has_key = false;
  };

  Mark mark_of(const YAML::Mark& mark) const {
    if (source_ > 0) return {source_, 0, 0};
    return {source_, mark.line, mark.column};
  }
  YamlNode make(Kind kind, const YAML::Mark& mark) const {
    YamlNode node;
    node.kind = kind;
    node.mark = mark_of(mark);
    return node;
  }
  void refuse(const YAML::Mark& mark, const std::string& message) {
    diagnostics_.add(mark_of(mark), {"E104", message});
  }
  void check_plain(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) refuse(mark, "anchors (&name) are not supported; remove it");
    if (tag != "?" && tag != "!" && !tag.empty())
      refuse(mark, fmt::format("tags ({}) are not supported; write the plain value", tag));
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      if (documents_ == 1) root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      parent.key = std::move(node);
      parent.has_key = true;
    } else {
      add_entry(parent, std::move(node));
    }
  }
  void add_entry(Open& map, YamlNode value) {
    map.has_key = false;
    if (map.key.kind != Kind::kScalar) {
      diagnostics_.add(map.key.mark, {"E104", "a key must be a name"});
      return;
    }
    map.node.entries.push_back({std::move(map.key.text), map.key.mark, std::move(value)});
  }
  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }

  int source_;
  Diagnostics& diagnostics_;
  int documents_ = 0;
  std::vector<Open> open_;
  YamlNode root_;
};

}  // namespace

YamlEntry* YamlNode::find(const std::string& key) {
  for (YamlEntry& entry : entries)
    if (entry.key == key) return &entry;
  return nullptr;
}

std::string read_yaml_file(const std::filesystem::path& file, const char* kind) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error))
    throw Error(ErrorKind::kConfig, "E111",
                fmt::format("'{}' is a folder; give the {} file", file.string(), kind));
  std::ifstream stream(file, std::ios::binary);
  if (!stream)
    throw Error(ErrorKind::kConfig, "E111", fmt::format("cannot read '{}'", file.string()));
  std::string text(kLargestFile + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kLargestFile)
    throw Error(ErrorKind::kConfig, "E111",
                fmt::format("'{}' is larger than 1 MiB: not a {} file", file.string(), kind));
  return text;
}

YamlNode parse_yaml(const std::string& text, int source, Diagnostics& diagnostics) {
  TreeBuilder builder(source, diagnostics);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    // One document too many is enough: for some damaged files (an open bracket before a ':')
    // yaml-cpp finds documents without end.
    while (builder.documents() < 2 && parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    const Mark mark =
        source > 0 ? Mark{source, 0, 0} : Mark{source, error.mark.line, error.mark.column};
    diagnostics.add(mark, {"E104", "not valid YAML: " + error.msg});
    return {};
  }
  return builder.take();
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a section";
    case Kind::kScalar:
      break;
  }
  return node.quoted ? fmt::format("the text \"{}\"", node.text) : fmt::format("'{}'", node.text);
}

void refuse_duplicates(const YamlNode& map, Diagnostics& diagnostics) {
  std::map<std::string, Mark> first;
  for (const YamlEntry& entry : map.entries) {
    const auto [place, is_new] = first.try_emplace(entry.key, entry.mark);
    if (is_new) continue;
    diagnostics.add(entry.mark,
                    {"E102", fmt::format("'{}' is set twice (first at line {}). Remove one.",
                                         entry.key, place->second.line + 1)});
  }
}

}  // namespace calque::config
