/* UNLINK, RENAME and LINK of regular files within one directory.
 *
 * Of the compiled part only this file changes names, and only where the tree has given leave for
 * whatever the names are.  A name is one component, opened directories are its only start, no
 * symbolic link is followed, and nothing is replaced: that, and every error, is Python's. */

#define _GNU_SOURCE
#include "engine.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

/* What was done cannot be undone: the answer stays the same. */
static void note(Engine *engine, PyObject *result)
{
    if (result == NULL)
        PyErr_WriteUnraisable((PyObject *)engine);
    Py_XDECREF(result);
}

/* A directory with leave, as a new reference, and its descriptor; NULL: Python is to answer. */
PyObject *directory_for(Engine *engine, const Request *request, unsigned act, Slip *leave, int *fd)
{
    int64_t number;
    PyObject *directory = node_numbered(engine, request->number);
    Slip *slip = directory == NULL ? NULL : slip_for(engine, directory, request->uid, act);
    if (slip == NULL || number_in(directory, names.fd, &number) < 0 || number < 0)
        return NULL;
    *leave = *slip;
    *fd = (int)number;
    return Py_NewRef(directory);
}

static int regular_file(int fd, const char *name, struct stat *status)
{
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = fstatat(fd, name, status, AT_SYMLINK_NOFOLLOW);
    Py_END_ALLOW_THREADS
    return result == 0 && S_ISREG(status->st_mode);
}

/* Hold a file that may lose its last name: the kernel may still have it.  As tree.keep().  0: not
 * possible. */
static int keep(Engine *engine, PyObject *node, int fd, const char *name)
{
    int64_t lookups, own_fd;
    struct stat status;
    PyObject *handles = PyObject_GetAttr(node, names.handles);
    int open = handles == NULL ? -1 : PyObject_IsTrue(handles);
    Py_XDECREF(handles);
    if (open < 0 || number_in(node, names.lookups, &lookups) < 0
        || number_in(node, names.fd, &own_fd) < 0)
        return 0;
    if (open || own_fd >= 0 || lookups <= 0)
        return 1;
    int kept;
    Py_BEGIN_ALLOW_THREADS
    kept = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (kept >= 0 && fstat(kept, &status) < 0) {
        close(kept);
        kept = -1;
    }
    Py_END_ALLOW_THREADS
    if (kept < 0)
        return 0;
    if (is_same(node, &status) <= 0) {
        close(kept);
        return 0;
    }
    PyObject *number = PyLong_FromLong(kept);
    PyObject *held = number == NULL
        ? NULL
        : PyObject_CallFunctionObjArgs(engine->hold, node, number, NULL);
    Py_XDECREF(number);
    if (held == NULL)
        close(kept);
    Py_XDECREF(held);
    return held != NULL;
}

Outcome answer_unlink(Engine *engine, const Request *request)
{
    Slip leave;
    int fd, result = -1;
    size_t length = name_length(request->body, request->size);
    PyObject *parent =
        length ? directory_for(engine, request, LEAVE_REMOVE, &leave, &fd) : NULL;
    if (parent == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    struct stat status;
    PyObject *node = NULL;
    if (is_plain(&leave, request->body, length) && regular_file(fd, request->body, &status)) {
        node = node_known(engine, parent, &status);
        if (!PyErr_Occurred() && (node == NULL || keep(engine, node, fd, request->body))) {
            Py_BEGIN_ALLOW_THREADS
            result = unlinkat(fd, request->body, 0);
            Py_END_ALLOW_THREADS
        }
    }
    Outcome outcome = PyErr_Occurred() ? FAILED : PASS;
    if (result == 0) {
        if (node != NULL) {
            PyObject *name =
                PyUnicode_DecodeFSDefaultAndSize(request->body, (Py_ssize_t)length);
            note(engine, name == NULL ? NULL
                                      : PyObject_CallFunctionObjArgs(engine->lost, node, parent,
                                                                     name, NULL));
            Py_XDECREF(name);
        }
        reply(engine, request->unique, NULL, 0);
        outcome = DONE;
    }
    Py_XDECREF(node);
    Py_DECREF(parent);
    return outcome;
}

/* The node is found under another name of the same directory now. */
static PyObject *moved(PyObject *node, PyObject *parent, const char *old, const char *new)
{
    PyObject *gone = PyObject_CallMethod(node, "name_is_gone", "OO&", parent, decoded, (void *)old);
    if (gone == NULL)
        return NULL;
    Py_DECREF(gone);
    return PyObject_CallMethod(node, "name_is", "OO&", parent, decoded, (void *)new);
}

static Outcome rename_within(Engine *engine, const Request *request, uint64_t target,
                             unsigned flags, size_t offset)
{
    const char *old = request->body + offset, *end = request->body + request->size;
    const char *middle = memchr(old, '\0', (size_t)(end - old));
    if (middle == NULL || target != request->number || flags & ~(unsigned)RENAME_NOREPLACE)
        return PASS;
    const char *new = middle + 1;
    size_t old_length = name_length(old, (size_t)(new - old));
    size_t new_length = name_length(new, (size_t)(end - new));
    if (!old_length || !new_length)
        return PASS;
    Slip leave;
    int fd, result = -1;
    PyObject *parent = directory_for(engine, request, LEAVE_RENAME, &leave, &fd);
    if (parent == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    struct stat status;
    if (is_plain(&leave, old, old_length) && is_plain(&leave, new, new_length)
        && regular_file(fd, old, &status)) {
        Py_BEGIN_ALLOW_THREADS
        result = renameat2(fd, old, fd, new, RENAME_NOREPLACE);
        Py_END_ALLOW_THREADS
    }
    if (result == 0) {
        PyObject *node = node_known(engine, parent, &status);
        if (node != NULL)
            note(engine, moved(node, parent, old, new));
        else if (PyErr_Occurred())
            note(engine, NULL);
        Py_XDECREF(node);
        reply(engine, request->unique, NULL, 0);
    }
    Py_DECREF(parent);
    return result == 0 ? DONE : PASS;
}

Outcome answer_rename(Engine *engine, const Request *request)
{
    struct fuse_rename_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    return rename_within(engine, request, in.newdir, 0, sizeof in);
}

Outcome answer_rename2(Engine *engine, const Request *request)
{
    struct fuse_rename2_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    return rename_within(engine, request, in.newdir, in.flags, sizeof in);
}

/* The node's name in this directory, as octets, if that is where it was seen last. */
static PyObject *name_within(PyObject *node, PyObject *directory)
{
    PyObject *parent, *name;
    if (last_name(node, &parent, &name) <= 0)
        return NULL;
    PyObject *octets = parent == directory ? PyUnicode_EncodeFSDefault(name) : NULL;
    Py_DECREF(parent);
    Py_DECREF(name);
    return octets;
}

static Outcome link_within(Engine *engine, const Request *request, PyObject *node,
                           PyObject *parent, const Slip *leave, int fd, const char *new,
                           size_t new_length)
{
    PyObject *octets = name_within(node, parent);
    if (octets == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    const char *old = PyBytes_AS_STRING(octets);
    struct stat status;
    Outcome outcome = PASS;
    int result = -1;
    if (is_plain(leave, old, (size_t)PyBytes_GET_SIZE(octets))
        && is_plain(leave, new, new_length) && regular_file(fd, old, &status)
        && is_same(node, &status) > 0) {
        Py_BEGIN_ALLOW_THREADS
        result = linkat(fd, old, fd, new, 0);
        if (result == 0 && fstatat(fd, new, &status, AT_SYMLINK_NOFOLLOW) < 0)
            result = 1;
        Py_END_ALLOW_THREADS
    }
    Py_DECREF(octets);
    if (PyErr_Occurred())
        return FAILED;
    if (result == 0) {
        outcome = answer_entry(engine, request, parent, new, &status, leave);
        if (outcome == FAILED)
            PyErr_WriteUnraisable((PyObject *)engine);
    }
    if (result > 0 || outcome == FAILED) { /* it was made, but is not there any more */
        refuse(engine, request->unique, ESTALE);
        outcome = DONE;
    }
    return outcome;
}

Outcome answer_link(Engine *engine, const Request *request)
{
    struct fuse_link_in in;
    Slip leave;
    int fd;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    const char *new = request->body + sizeof in;
    size_t length = name_length(new, request->size - sizeof in);
    PyObject *parent = length ? directory_for(engine, request, LEAVE_LINK, &leave, &fd) : NULL;
    if (parent == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    PyObject *node = Py_XNewRef(node_numbered(engine, in.oldnodeid));
    Outcome outcome = PyErr_Occurred() ? FAILED : PASS;
    if (node != NULL)
        outcome = link_within(engine, request, node, parent, &leave, fd, new, length);
    Py_XDECREF(node);
    Py_DECREF(parent);
    return outcome;
}
