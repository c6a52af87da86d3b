# The extension module tritllm._native of the Python package: -DTRITLLM_PYTHON=ON, OFF, or AUTO: where an interpreter with nanobind
# and its headers is found. `pip install .` (pyproject.toml) comes here through scikit-build-core; the tests install what the
# main build has made, through python/prebuilt.
set(TRITLLM_PYTHON AUTO CACHE STRING "Build the Python module: ON, OFF, or AUTO (where nanobind is installed)")
if(NOT TRITLLM_PYTHON OR TRITLLM_SANITIZE OR CMAKE_CROSSCOMPILING)
  return()
endif()

if(NOT Python_EXECUTABLE AND NOT SKBUILD AND EXISTS ${PROJECT_SOURCE_DIR}/.venv/bin/python)
  set(Python_EXECUTABLE ${PROJECT_SOURCE_DIR}/.venv/bin/python)
endif()
if(TRITLLM_PYTHON STREQUAL "AUTO")
  set(python_required QUIET)
else()
  set(python_required REQUIRED)
endif()
find_package(Python 3.11 ${python_required} COMPONENTS Interpreter Development.Module OPTIONAL_COMPONENTS Development.SABIModule)
set(nanobind_status 1)
if(Python_FOUND)
  execute_process(COMMAND ${Python_EXECUTABLE} -m nanobind --cmake_dir
    OUTPUT_VARIABLE nanobind_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE nanobind_status)
endif()
if(NOT nanobind_status EQUAL 0)
  if(python_required STREQUAL "REQUIRED")
    message(FATAL_ERROR "${Python_EXECUTABLE} has no nanobind")
  endif()
  message(STATUS "No Python module: no Python 3.11 or later with its headers and nanobind")
  return()
endif()
find_package(nanobind CONFIG REQUIRED)

set(python_folder ${PROJECT_BINARY_DIR}/python/tritllm)
# NB_STATIC: nanobind itself is part of the module. Python before 3.12 has no stable interface that suffices; then the module is of
# one version.
nanobind_add_module(tritllm_python STABLE_ABI NB_STATIC NOMINSIZE
  python/generation.cpp python/matrices.cpp python/module.cpp python/tasks.cpp)
set_target_properties(tritllm_python PROPERTIES OUTPUT_NAME _native LIBRARY_OUTPUT_DIRECTORY ${python_folder})
target_link_libraries(tritllm_python PRIVATE tritllm_api)
target_compile_definitions(tritllm_python PRIVATE TRITLLM_VERSION="${PROJECT_VERSION}")
# Names of this project's libraries and of the C++ runtime stay inside, so that no other module of the interpreter meets them.
target_link_options(tritllm_python PRIVATE -Wl,--exclude-libs,ALL)
if(TRITLLM_STATIC)
  target_link_options(tritllm_python PRIVATE -static-libstdc++ -static-libgcc)
endif()

nanobind_add_stub(tritllm_python_stub
  MODULE _native OUTPUT ${python_folder}/_native.pyi PYTHON_PATH ${python_folder} DEPENDS tritllm_python)

if(SKBUILD)
  set(scripts ${SKBUILD_SCRIPTS_DIR})
else()
  set(scripts scripts)
endif()
install(TARGETS tritllm_python LIBRARY DESTINATION tritllm COMPONENT python EXCLUDE_FROM_ALL)
install(FILES ${python_folder}/_native.pyi DESTINATION tritllm COMPONENT python EXCLUDE_FROM_ALL)
install(PROGRAMS ${PROJECT_BINARY_DIR}/tritllm DESTINATION ${scripts} COMPONENT python EXCLUDE_FROM_ALL)
