# tritllm_module(NAME SOURCES file... [LINKS target...]): the library of one folder of src/.
# LINKS names everything that the module may use; the test `layering` checks it, and the includes, against ARCHITECTURE.md.
function(tritllm_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(tritllm_${name} STATIC ${ARG_SOURCES})
  target_include_directories(tritllm_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(tritllm_${name} PUBLIC ${ARG_LINKS} PRIVATE tritllm_flags)
endfunction()
