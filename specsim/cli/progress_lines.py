"""How far something is where there is no terminal: a line now and then."""

from __future__ import annotations

from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

BETWEEN_LINES_S = 15.0
TASK_AFTER_S = 2.0  # a part of the work is named where what came before it took longer


class ProgressLines(Progress):
    """Of rich's progress, without its bar: short work says nothing."""

    def __init__(self, screen: Console) -> None:
        super().__init__(console=screen, disable=True)
        self.told_s = monotonic()

    def add_task(self, description: str, *arguments: Any, **options: Any) -> TaskID:
        task = super().add_task(description, *arguments, **options)
        self._tell(task, after_s=TASK_AFTER_S)
        return task

    def update(self, task_id: TaskID, *arguments: Any, **options: Any) -> None:
        super().update(task_id, *arguments, **options)
        self._tell(task_id, after_s=BETWEEN_LINES_S)

    def _tell(self, task_id: TaskID, *, after_s: float) -> None:
        task = self._tasks[task_id]
        if monotonic() - self.told_s < after_s or not task.description:
            return
        self.told_s = monotonic()
        far = f": {task.completed / task.total:.0%}" if task.total and task.completed > 0 else ""
        self.console.print(f"{task.description}{far}", markup=False)
