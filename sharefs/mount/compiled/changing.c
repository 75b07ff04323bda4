/* UNLINK, RENAME and LINK of regular files, within one directory or between cur, new and tmp.
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

static int has_leave(Engine *engine, PyObject *directory, int64_t uid, unsigned acts, Slip *leave,
                     int *fd)
{
    int64_t number;
    Slip *slip = slip_for(engine, directory, uid, acts);
    if (slip == NULL || number_in(directory, names.fd, &number) < 0 || number < 0)
        return 0;
    *leave = *slip;
    *fd = (int)number;
    return 1;
}

/* A directory with leave, as a new reference, and its descriptor; NULL: Python is to answer. */
PyObject *directory_for(Engine *engine, const Request *request, unsigned act, Slip *leave, int *fd)
{
    PyObject *directory = node_numbered(engine, request->number);
    if (directory == NULL || !has_leave(engine, directory, request->uid, act, leave, fd))
        return NULL;
    return Py_NewRef(directory);
}

/* Whether both lie in the same directory, under the names by which they were seen last. */
static int are_siblings(PyObject *one, PyObject *other)
{
    PyObject *above, *beside, *name;
    if (last_name(one, &above, &name) <= 0)
        return 0;
    Py_DECREF(above); /* the node holds it */
    Py_DECREF(name);
    if (last_name(other, &beside, &name) <= 0)
        return 0;
    Py_DECREF(beside);
    Py_DECREF(name);
    return above == beside;
}

/* Another directory with leave for what begins or ends in this one, and its descriptor: a file may
 * stay the same in both.  0: Python is to answer. */
static int beside(Engine *engine, const Request *request, PyObject *directory, PyObject *other,
                  unsigned act, Slip *leave, int *fd)
{
    Slip own;
    int own_fd;
    act |= LEAVE_SIBLINGS;
    return are_siblings(directory, other)
        && has_leave(engine, directory, request->uid, act, &own, &own_fd)
        && has_leave(engine, other, request->uid, act, leave, fd);
}

static int regular_file(int fd, const char *name, struct stat *status)
{
    int result;
    BELOW_BEGIN
    result = fstatat(fd, name, status, AT_SYMLINK_NOFOLLOW);
    BELOW_END
    return result == 0 && S_ISREG(status->st_mode);
}

/* A regular file by its name (O_PATH), and what it is; -1: Python is to try. */
static int find_file(int fd, const char *name, struct stat *status)
{
    int found;
    BELOW_BEGIN
    found = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (found >= 0 && (fstat(found, status) < 0 || !S_ISREG(status->st_mode))) {
        close(found);
        found = -1;
    }
    BELOW_END
    return found;
}

/* Hold a file that may lose its last name: the kernel may still have it.  As tree.keep().  Takes
 * its descriptor over.  0: not possible, or an exception. */
static int keep(Engine *engine, PyObject *node, int file)
{
    int64_t lookups, own_fd;
    PyObject *handles = PyObject_GetAttr(node, names.handles);
    int open = handles == NULL ? -1 : PyObject_IsTrue(handles);
    Py_XDECREF(handles);
    int known = open >= 0 && number_in(node, names.lookups, &lookups) == 0
        && number_in(node, names.fd, &own_fd) == 0;
    if (!known || open || own_fd >= 0 || lookups <= 0) {
        close(file);
        return known;
    }
    PyObject *number = PyLong_FromLong(file);
    PyObject *held = number == NULL
        ? NULL
        : PyObject_CallFunctionObjArgs(engine->hold, node, number, NULL);
    Py_XDECREF(number);
    if (held == NULL)
        close(file);
    Py_XDECREF(held);
    return held != NULL;
}

Outcome answer_unlink(Engine *engine, const Request *request)
{
    Slip leave;
    int fd, file = -1, result = -1;
    size_t length = name_length(request->body, request->size);
    PyObject *parent =
        length ? directory_for(engine, request, LEAVE_REMOVE, &leave, &fd) : NULL;
    if (parent == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    struct stat status;
    PyObject *node = NULL;
    if (is_plain(&leave, request->body, length)
        && (file = find_file(fd, request->body, &status)) >= 0) {
        node = node_known(engine, parent, &status);
        if (node == NULL)
            close(file);
        if (node != NULL ? keep(engine, node, file) : !PyErr_Occurred()) {
            BELOW_BEGIN
            result = unlinkat(fd, request->body, 0);
            BELOW_END
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

/* A name in a directory. */
typedef struct {
    PyObject *parent;
    int fd; /* the parent's */
    const char *name;
    size_t length;
    Slip leave;
} Place;

static Outcome rename_at(Engine *engine, const Request *request, const Place *old,
                         const Place *new)
{
    struct stat status;
    int result;
    if (!is_plain(&old->leave, old->name, old->length)
        || !is_plain(&new->leave, new->name, new->length)
        || !regular_file(old->fd, old->name, &status))
        return PASS;
    BELOW_BEGIN
    result = renameat2(old->fd, old->name, new->fd, new->name, RENAME_NOREPLACE);
    BELOW_END
    if (result < 0)
        return PASS;
    PyObject *node = node_known(engine, old->parent, &status);
    if (node != NULL)
        name_moves(node, old->parent, old->name, new->parent, new->name);
    if (PyErr_Occurred())
        PyErr_WriteUnraisable((PyObject *)engine); /* it is done, so the answer stays the same */
    Py_XDECREF(node);
    reply(engine, request->unique, NULL, 0);
    return DONE;
}

static Outcome rename_file(Engine *engine, const Request *request, uint64_t target,
                           unsigned flags, size_t offset)
{
    const char *first = request->body + offset, *end = request->body + request->size;
    const char *middle = memchr(first, '\0', (size_t)(end - first));
    if (middle == NULL || flags & ~(unsigned)RENAME_NOREPLACE)
        return PASS;
    Place old = {.name = first}, new = {.name = middle + 1};
    old.length = name_length(old.name, (size_t)(new.name - old.name));
    new.length = name_length(new.name, (size_t)(end - new.name));
    if (!old.length || !new.length)
        return PASS;
    old.parent = directory_for(engine, request, LEAVE_RENAME, &old.leave, &old.fd);
    if (old.parent == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    int allowed = 1;
    if (target == request->number) {
        new.parent = Py_NewRef(old.parent);
        new.leave = old.leave;
        new.fd = old.fd;
    } else {
        new.parent = Py_XNewRef(node_numbered(engine, target));
        allowed = new.parent != NULL
            && beside(engine, request, old.parent, new.parent, LEAVE_RENAME, &new.leave, &new.fd);
    }
    Outcome outcome = allowed ? rename_at(engine, request, &old, &new) : PASS;
    Py_DECREF(old.parent);
    Py_XDECREF(new.parent);
    return PyErr_Occurred() ? FAILED : outcome;
}

Outcome answer_rename(Engine *engine, const Request *request)
{
    struct fuse_rename_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    return rename_file(engine, request, in.newdir, 0, sizeof in);
}

Outcome answer_rename2(Engine *engine, const Request *request)
{
    struct fuse_rename2_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    return rename_file(engine, request, in.newdir, in.flags, sizeof in);
}

static Outcome link_at(Engine *engine, const Request *request, PyObject *node, const Place *old,
                       const Place *new)
{
    struct stat status;
    Outcome outcome = PASS;
    int result;
    if (!is_plain(&old->leave, old->name, old->length)
        || !is_plain(&new->leave, new->name, new->length)
        || !regular_file(old->fd, old->name, &status) || is_same(node, &status) <= 0)
        return PyErr_Occurred() ? FAILED : PASS;
    BELOW_BEGIN
    result = linkat(old->fd, old->name, new->fd, new->name, 0);
    if (result == 0 && fstatat(new->fd, new->name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        result = 1;
    BELOW_END
    if (result == 0) {
        outcome = answer_entry(engine, request, new->parent, new->name, &status, &new->leave);
        if (outcome == FAILED)
            PyErr_WriteUnraisable((PyObject *)engine);
    }
    if (result > 0 || outcome == FAILED) { /* it was made, but is not there any more */
        refuse(engine, request->unique, ESTALE);
        outcome = DONE;
    }
    return outcome;
}

/* To the node's name, as it was seen last. */
static Outcome link_file(Engine *engine, const Request *request, PyObject *node, const Place *new)
{
    PyObject *name;
    Place old = *new;
    int named = last_name(node, &old.parent, &name);
    if (named <= 0)
        return named < 0 ? FAILED : PASS;
    Outcome outcome = PASS;
    int allowed = old.parent == new->parent
        || beside(engine, request, new->parent, old.parent, LEAVE_LINK, &old.leave, &old.fd);
    PyObject *octets = allowed ? PyUnicode_EncodeFSDefault(name) : NULL;
    if (octets != NULL) {
        old.name = PyBytes_AS_STRING(octets);
        old.length = (size_t)PyBytes_GET_SIZE(octets);
        outcome = link_at(engine, request, node, &old, new);
    }
    Py_DECREF(old.parent);
    Py_DECREF(name);
    Py_XDECREF(octets);
    return PyErr_Occurred() ? FAILED : outcome;
}

Outcome answer_link(Engine *engine, const Request *request)
{
    struct fuse_link_in in;
    Place new;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    new.name = request->body + sizeof in;
    new.length = name_length(new.name, request->size - sizeof in);
    new.parent =
        new.length ? directory_for(engine, request, LEAVE_LINK, &new.leave, &new.fd) : NULL;
    if (new.parent == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    PyObject *node = Py_XNewRef(node_numbered(engine, in.oldnodeid));
    Outcome outcome = PyErr_Occurred() ? FAILED : PASS;
    if (node != NULL)
        outcome = link_file(engine, request, node, &new);
    Py_XDECREF(node);
    Py_DECREF(new.parent);
    return outcome;
}
